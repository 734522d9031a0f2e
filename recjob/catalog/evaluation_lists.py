"""The fixed lists of the evaluation: each positive with negatives that all methods rank alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int8Array, Int32Array, Int64Array
from recjob.catalog.given_negatives import GivenNegatives
from recjob.catalog.hashing import UInt64Array, keyed_hashes, pair_hashes, set_hashes
from recjob.catalog.negatives import KeyedDraws, KnownPositives, RandomNegatives, draw_hard
from recjob.catalog.split import Part
from recjob.settings import NegativesKind

HARD_SHARES: Final[Mapping[NegativesKind, float]] = {"random": 0.0, "hard": 1.0, "half": 0.5}
"""Share of hard negatives in each kind of lists (`evaluation.negatives`)."""


@dataclass(frozen=True)
class EvaluationLists:
    """Lists to rank: each a positive and negatives that stay the same for every method."""

    user: Int32Array
    """(n,)"""
    items: Int32Array
    """(n, 1 + n_negatives, max_items) item indices, padded; the positive is first."""
    left_out: int
    """Positives without a list: an item in quarantine, or no negatives to be had for them."""


def evaluation_lists(
    catalog: Catalog,
    parts: Int8Array,
    part: Part,
    n_negatives: int,
    seed: int,
    users: Int32Array | None = None,
    max_positives: int = 0,
    hard_share: float = 0.0,
    given: GivenNegatives | None = None,
) -> EvaluationLists:
    """One list per positive of `part` (Sec. 4.1.2), the same for the same `seed`.

    Negatives are random outfits of the part's items; of each list the last `hard_share` of them
    are positives of other users in the part instead (Sec. 4.4). None is a positive of that user in
    any part. `users` keeps to their positives; `max_positives` > 0 takes a random choice of so
    many. `given` are negatives of the data's own; what they lack is drawn.
    """
    of_part = part_rows(catalog, parts, part, users)
    rows = usable_rows(catalog, of_part)
    drawer = ListDrawer(catalog, parts, part, n_negatives, seed, hard_share, given)
    left_out = of_part.size - rows.size
    if 0 < max_positives < rows.size:
        hashes = drawer.list_hashes(rows)
        rows = rows[np.sort(np.argsort(hashes, kind="stable")[:max_positives])]
    items, whole = drawer.draw(rows)
    user = catalog.positives[rows[whole], 0]
    return EvaluationLists(user, items[whole], left_out + int((~whole).sum()))


def part_rows(
    catalog: Catalog, parts: Int8Array, part: Part, users: Int32Array | None = None
) -> Int64Array:
    """(n,) indices of the positives of a part, of `users` alone where they are given."""
    chosen = parts == part
    if users is not None:
        chosen &= np.isin(catalog.positives[:, 0], users)
    return np.flatnonzero(chosen)


def usable_rows(catalog: Catalog, rows: Int64Array) -> Int64Array:
    """Those positives of `rows` (n,) whose outfits have no item in quarantine."""
    usable: Int64Array = rows[catalog.outfit_usable[catalog.positives[rows, 1]]]
    return usable


class ListDrawer:
    """Draws lists of one part. What a list holds follows from the seed, its user's id, its
    positive's set of item ids, and what there is to draw from; other lists change nothing."""

    def __init__(
        self,
        catalog: Catalog,
        parts: Int8Array,
        part: Part,
        n_negatives: int,
        seed: int,
        hard_share: float = 0.0,
        given: GivenNegatives | None = None,
    ) -> None:
        self._catalog = catalog
        self._n_hard = int(n_negatives * hard_share + 0.5)
        self._n_random = n_negatives - self._n_hard
        self._seed = seed
        pool = usable_rows(catalog, part_rows(catalog, parts, part))
        self._pool = catalog.positives[pool]
        self._random = RandomNegatives(catalog, self._pool[:, 1])
        self._given = given
        self.known = KnownPositives(catalog)
        """Positives of any part."""

    def list_hashes(self, rows: Int64Array) -> UInt64Array:
        """(n,) a hash under the seed of the user and the item set of each positive of `rows`."""
        catalog, key = self._catalog, str(self._seed)
        user, outfit = catalog.positives[rows].T
        users, user = np.unique(user, return_inverse=True)
        ids = keyed_hashes((catalog.user_ids[index] for index in users), key, "user")
        items = keyed_hashes(catalog.item_ids, key, "item")
        return pair_hashes(ids[user], set_hashes(catalog.outfit_items[outfit], items))

    def draw(self, rows: Int64Array) -> tuple[Int32Array, BoolArray]:
        """Lists (n, 1 + n_negatives, max_items) of the positives `rows` (n,), and which are whole.

        One is not whole where there are no negatives to be had: nearly every possible outfit is a
        positive, or the user likes all that others like.
        """
        catalog = self._catalog
        user, outfit = catalog.positives[rows].T
        places, given = self._places_of_given(rows)
        positives = catalog.outfit_items[outfit]
        width = max(catalog.max_items, given.shape[1])
        n_negatives = self._n_random + self._n_hard
        items = np.full((rows.size, 1 + n_negatives, width), PADDING, np.int32)
        items[:, 0, : positives.shape[1]] = positives
        negatives = items[:, 1:].reshape(-1, width)
        negatives[places, : given.shape[1]] = given
        missing = np.ones(len(negatives), np.bool_)
        missing[places] = False
        hard = np.tile(np.arange(n_negatives) >= self._n_random, rows.size)
        number = np.tile(np.arange(n_negatives, dtype=np.uint64), rows.size)
        keys = pair_hashes(np.repeat(self.list_hashes(rows), n_negatives), number)
        stuck = np.zeros(len(negatives), np.bool_)
        for are_hard in (False, True):
            drawn = np.flatnonzero(missing & (hard == are_hard))
            if drawn.size:
                of_list = drawn // n_negatives
                draw = self._draw_hard if are_hard else self._draw_random
                found, stuck[drawn] = draw(user[of_list], outfit[of_list], KeyedDraws(keys[drawn]))
                negatives[drawn, : catalog.max_items] = found
        items[:, 1:] = negatives.reshape(rows.size, n_negatives, width)
        return items, np.asarray(~stuck.reshape(rows.size, n_negatives).any(axis=1))

    def _draw_random(
        self, user: Int32Array, outfit: Int32Array, draws: KeyedDraws
    ) -> tuple[Int32Array, BoolArray]:
        return self._random.draw_unless(
            lambda rows, drawn: self.known.contains(user[rows], drawn), outfit, draws
        )

    def _draw_hard(
        self, user: Int32Array, _: Int32Array, draws: KeyedDraws
    ) -> tuple[Int32Array, BoolArray]:
        outfits, impossible = draw_hard(self._catalog, self._pool, user, draws, self.known)
        return self._catalog.outfit_items[outfits], impossible

    def _places_of_given(self, rows: Int64Array) -> tuple[Int64Array, Int32Array]:
        """Where in the (n * n_negatives,) negatives the data's own go, and their items."""
        given, catalog = self._given, self._catalog
        if given is None or not rows.size:
            return np.empty(0, np.int64), np.empty((0, 0), np.int32)
        order = np.argsort(rows)
        place = np.searchsorted(rows[order], given.positive)
        of_list = order[np.minimum(place, rows.size - 1)]
        real = given.items != PADDING
        fit = (rows[of_list] == given.positive) & (catalog.item_usable[given.items] | ~real).all(1)
        user = catalog.positives[given.positive, 0]
        fit &= real.any(axis=1) & ~self.known.contains(user, given.items)
        # Of each list and kind so many as are wanted, the first ones.
        of_list, hard, items = of_list[fit], given.hard[fit], given.items[fit]
        group = of_list * 2 + hard
        order = np.argsort(group, kind="stable")
        count = np.bincount(group, minlength=2 * rows.size)
        rank = np.arange(group.size) - (np.cumsum(count) - count)[group[order]]
        wanted = np.where(hard[order], self._n_hard, self._n_random)
        kept = order[rank < wanted]
        start = of_list * (self._n_random + self._n_hard) + np.where(hard, self._n_random, 0)
        return start[kept] + rank[rank < wanted], items[kept]
