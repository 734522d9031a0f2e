"""Negatives: random outfits, and other users' positives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int32Array, Int64Array
from recjob.catalog.hashing import UInt64Array, fractions, pair_hashes, set_hashes
from recjob.errors import DataError

# A round redraws what the last one left. In a catalog of any size a handful settles every row;
# where most outfits are positives (a few items per category) no number would.
_ROUNDS = 64


class KnownPositives:
    """Answers whether an outfit is a positive of a user in any part, by its set of items."""

    def __init__(self, catalog: Catalog) -> None:
        users, outfits = catalog.positives.T
        sets = set_hashes(catalog.outfit_items)
        self._pairs = np.sort(pair_hashes(_keys(users), sets[outfits]))

    def contains(self, users: Int32Array, items: Int32Array) -> BoolArray:
        """(n,) whether row i of `items` (n, max_items) is a positive of `users[i]` (n,)."""
        return _among(pair_hashes(_keys(users), set_hashes(items)), self._pairs)

    def contains_all(self, users: Int32Array, items: Int32Array) -> BoolArray:
        """(n, k) whether row j of `items` (k, max_items) is a positive of `users[i]` (n,)."""
        return _among(pair_hashes(_keys(users)[:, None], set_hashes(items)), self._pairs)


class Draws(Protocol):
    """Where random integers come from."""

    def integers(self, rows: Int64Array, limits: Int64Array) -> Int64Array:
        """(n,) for each of the rows (n,) a uniform integer below its limit (n,)."""
        ...


class GeneratorDraws:
    """From a generator: what a row gets depends on those that drew before."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integers(self, rows: Int64Array, limits: Int64Array) -> Int64Array:
        """See `Draws`."""
        return self._rng.integers(0, limits)


class KeyedDraws:
    """From a key per row and how often the row drew before: other rows change nothing."""

    def __init__(self, keys: UInt64Array) -> None:
        self._keys = keys
        self._drawn = np.zeros(keys.shape, np.uint64)

    def integers(self, rows: Int64Array, limits: Int64Array) -> Int64Array:
        """See `Draws`; each row is there once."""
        # A draw without a choice is none: places that only pad a wider outfit change nothing.
        self._drawn[rows] += (limits > 1).astype(np.uint64)
        hashes = pair_hashes(self._keys[rows], self._drawn[rows])
        return (fractions(hashes) * limits).astype(np.int64)


class RandomNegatives:
    """Random outfits made of the items of a part's positives.

    Per place an item of the same category, drawn uniformly over the unique items (so that how
    often an item is liked stays a signal), and never an outfit that is a positive of the part.
    """

    def __init__(self, catalog: Catalog, outfits: Int32Array) -> None:
        self._catalog = catalog
        rows = catalog.outfit_items[np.unique(outfits)]
        occurs = np.bincount(rows[rows != PADDING], minlength=catalog.n_items) > 0
        items = np.flatnonzero(occurs & catalog.item_usable).astype(np.int32)
        category = catalog.item_category[items]
        # Items grouped by category: those of category c are pool[start[c] : start[c] + size[c]].
        self._pool = items[np.argsort(category, kind="stable")]
        self._size = np.bincount(category, minlength=len(catalog.categories)).astype(np.int64)
        self._start = np.cumsum(self._size) - self._size
        self._positives = np.sort(set_hashes(rows))

    def draw(self, like: Int32Array, rng: np.random.Generator) -> Int32Array:
        """(n, max_items) item indices, padded: one random outfit for each outfit of `like` (n,).

        It has the categories of its outfit, place by place, and no item twice where the category
        has enough items. Where nearly every possible outfit is a positive, one of them may remain
        after a bounded number of draws.

        Raises DataError when a category has no item to draw.
        """
        return self.draw_unless(None, like, GeneratorDraws(rng))[0]

    def draw_unless(
        self,
        refused: Callable[[Int64Array, Int32Array], BoolArray] | None,
        like: Int32Array,
        draws: Draws,
    ) -> tuple[Int32Array, BoolArray]:
        """`draw`, which also avoids what `refused` says of some rows (k,) and their draws.

        Returns the outfits (n, max_items) and which rows (n,) were refused to the end.
        """
        places = self._catalog.outfit_items[like]

        def unwanted(rows: Int64Array, items: Int32Array) -> BoolArray:
            positive = _among(set_hashes(items), self._positives)
            return positive | refused(rows, items) if refused else positive

        return _redraw(
            places.shape, lambda rows: self._draw_once(rows, places[rows], draws), unwanted
        )

    def _draw_once(self, rows: Int64Array, places: Int32Array, draws: Draws) -> Int32Array:
        category = np.where(places == PADDING, -1, self._catalog.item_category[places])
        size = np.where(category < 0, 1, self._size[category])
        if not size.all():
            name = self._catalog.categories[int(category[size == 0][0])]
            raise DataError(f"no item of category {name!r} with a picture to draw negatives from")
        width = places.shape[1]
        chosen = np.zeros(places.shape, dtype=np.int64)
        for place in range(width):
            # Floyd's sampling without repetition: the k-th of K draws from n is uniform over the
            # first n - K + k; if that one is taken, the last of them is not and takes its place.
            same = category == category[:, place : place + 1]
            left = same[:, place + 1 :].sum(axis=1)
            limit = size[:, place] - left
            enough = size[:, place] >= same.sum(axis=1)
            limit = np.where(enough, limit, size[:, place])
            draw = draws.integers(rows, limit)
            taken = (same[:, :place] & (chosen[:, :place] == draw[:, None])).any(axis=1)
            chosen[:, place] = np.where(taken & enough, limit - 1, draw)
        start = np.where(category < 0, 0, self._start[category])
        items = self._pool[start + chosen]
        return np.where(category < 0, np.int32(PADDING), items).astype(np.int32)


def hard_negatives(
    catalog: Catalog,
    positives: Int32Array,
    users: Int32Array,
    rng: np.random.Generator,
    known: KnownPositives | None = None,
) -> Int32Array:
    """(m,) for each of `users` (m,) an outfit of `positives` (n, 2) that other users like.

    Never a known positive of that user in any part, compared by item set; `known` saves building
    the answer to that anew. Drawn as often as it is liked.

    Raises DataError for a user who likes every one of the outfits.
    """
    known = known or KnownPositives(catalog)
    outfits, impossible = draw_hard(catalog, positives, users, GeneratorDraws(rng), known)
    if impossible.any():
        user = catalog.user_ids[users[impossible][0]]
        raise DataError(f"user {user!r} likes every outfit; hard negatives need one they do not")
    return outfits


def draw_hard(
    catalog: Catalog, positives: Int32Array, users: Int32Array, draws: Draws, known: KnownPositives
) -> tuple[Int32Array, BoolArray]:
    """`hard_negatives`, and which of `users` (m,) like every outfit, so that theirs mean nothing.

    Raises DataError where there is no positive at all without an item in quarantine.
    """
    usable = positives[catalog.outfit_usable[positives[:, 1]], 1]
    if not usable.size:
        raise DataError("there are no positives to take hard negatives from")

    def draw(rows: Int64Array, choice: Int32Array) -> Int32Array:
        limits = np.full(rows.size, choice.size, np.int64)
        return choice[draws.integers(rows, limits)]

    chosen, stuck = _redraw(
        users.shape,
        lambda rows: draw(rows, usable),
        lambda rows, outfits: known.contains(users[rows], catalog.outfit_items[outfits]),
    )
    for user in np.unique(users[stuck]):  # users who like most of what there is: rare
        rows = np.flatnonzero(stuck & (users == user))
        liked = known.contains_all(np.array([user]), catalog.outfit_items[usable])[0]
        if not liked.all():
            chosen[rows] = draw(rows, usable[~liked])
            stuck[rows] = False
    return chosen, stuck


def _redraw(
    shape: tuple[int, ...],
    draw: Callable[[Int64Array], Int32Array],
    refused: Callable[[Int64Array, Int32Array], BoolArray],
) -> tuple[Int32Array, BoolArray]:
    """Draw every row, and those again that are refused; and which are refused to the end."""
    drawn = np.empty(shape, dtype=np.int32)
    rows = np.arange(shape[0])
    for _ in range(_ROUNDS):
        if not rows.size:
            break
        drawn[rows] = draw(rows)
        rows = rows[refused(rows, drawn[rows])]
    stuck = np.zeros(shape[0], dtype=np.bool_)
    stuck[rows] = True
    return drawn, stuck


def _keys(users: Int32Array) -> UInt64Array:
    return users.astype(np.int64).view(np.uint64)


def _among(hashes: UInt64Array, ordered: UInt64Array) -> BoolArray:
    """Whether each hash is among `ordered` (ascending): faster than np.isin, which sorts again."""
    if not ordered.size:
        return np.zeros(hashes.shape, dtype=np.bool_)
    places = np.minimum(np.searchsorted(ordered, hashes), ordered.size - 1)
    return np.asarray(ordered[places] == hashes)
