"""New outfits: combinations of items that nobody put together yet, and those worth keeping."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import (
    PADDING,
    BoolArray,
    Catalog,
    Float32Array,
    Int32Array,
    Int64Array,
)
from recjob.catalog.hashing import UInt64Array, set_hashes
from recjob.ranking.candidates import candidates, required_items, usable_items
from recjob.ranking.rules import category_patterns
from recjob.ranking.top_k import top_k
from recjob.settings import RuleSettings

Float64Array = NDArray[np.float64]

DRAWS_PER_BLOCK: Final = 2**17
"""Combinations drawn at a time: some tens of megabytes of working memory."""
DRAWS_PER_WANTED: Final = 8
"""So many draws per combination asked for; a catalog too small for more gives fewer."""
ID_PREFIX: Final = "mix-"
ID_DIGITS: Final = 20
"""Hex digits of an id: 80 bits, so that not even a billion mixes are likely to share one."""

SAMPLE_USERS: Final = 2**15
"""Users that the neighbourhoods are found from."""
ROUNDS: Final = 20
"""Most rounds of k-means: later ones move few users."""


def draw_mixes(
    catalog: Catalog,
    count: int,
    seed: int,
    rules: RuleSettings,
    attributes: BoolArray | None = None,
) -> Int32Array:
    """Up to `count` new outfits, `(n, max_items)` int32: items ascending, then PADDING.

    The categories of a mix are those of an outfit that may be recommended, drawn as often as such
    outfits have them, and each item is one of its category, all alike likely, that is available,
    not in quarantine and not forbidden. No mix has an item twice, lacks something required, or is
    an outfit of the catalog or an earlier mix in another order. Where such combinations are rare,
    fewer come back, and large outfits more often than drawn.

    Args:
        catalog: its outfits are the patterns.
        count: how many are wanted.
        seed: the same seed and data give the same mixes.
        rules: as for `candidates`.
        attributes: as for `candidates`.
    """
    slots = _Slots.of(catalog, rules, attributes)
    found = [np.empty((0, catalog.max_items), np.int32)]
    if len(slots.patterns) == 0 or count == 0:
        return found[0]
    rng = np.random.default_rng(seed)
    required = [np.append(flag, False) for flag in required_items(catalog, rules, attributes)]
    known = _outfit_hashes(catalog)
    missing = count
    for size in _blocks(count * DRAWS_PER_WANTED, min(count, DRAWS_PER_BLOCK)):
        items = slots.draw(size, rng)
        fine = ~((items[:, 1:] == items[:, :-1]) & (items[:, 1:] != PADDING)).any(axis=1)
        for flag in required:
            fine &= flag[items].any(axis=1)
        items = items[fine]
        hashes, first = np.unique(set_hashes(items), return_index=True)
        places = np.searchsorted(known, hashes)
        new = known[np.minimum(places, len(known) - 1)] != hashes
        known = np.insert(known, places[new], hashes[new])
        chosen = np.sort(first[new])[:missing]
        found.append(items[chosen])
        missing -= len(chosen)
        if missing == 0:
            break
    return np.concatenate(found)


@dataclass(frozen=True)
class _Slots:
    """What mixes are drawn from."""

    patterns: Int32Array
    """(P, max_items) categories of a combination, ascending, padded with PADDING at the front."""
    share: Float64Array
    """(P,) of the outfits."""
    items: Int32Array
    """(n,) usable items by category, then PADDING."""
    start: Int64Array
    """(n_categories + 1,) where a category begins in `items`; the last is the padding's."""
    size: Int64Array
    """(n_categories + 1,) how many items it has there; the padding has one."""

    @classmethod
    def of(cls, catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None) -> _Slots:
        usable = np.flatnonzero(usable_items(catalog, rules, attributes))
        category = catalog.item_category[usable]
        order = np.argsort(category, kind="stable")
        n_categories = len(catalog.categories)
        size = np.append(np.bincount(category, minlength=n_categories), 1)
        like = candidates(catalog, None, rules, attributes).indices
        _, first, frequency = np.unique(
            category_patterns(catalog)[like], return_index=True, return_counts=True
        )
        padded = np.append(catalog.item_category, np.int32(PADDING))
        patterns = np.sort(padded[catalog.outfit_items[like[first]]], axis=1)
        fixed = np.lexsort(patterns.T)  # not the order of the patterns' hashes
        return cls(
            patterns[fixed],
            frequency[fixed] / max(1, frequency.sum()),
            np.append(usable[order], PADDING).astype(np.int32),
            np.cumsum(size) - size,
            size,
        )

    def draw(self, n: int, rng: np.random.Generator) -> Int32Array:
        """`(n, max_items)` items, ascending, then PADDING; an item may come twice in a row."""
        slots = self.patterns[rng.choice(len(self.patterns), n, p=self.share)]
        # PADDING, -1, is the last entry of `start` and `size`.
        place = self.start[slots] + rng.integers(0, self.size[slots])
        items = np.sort(self.items[place], axis=1)
        # PADDING sorts to the front; rolled by its number of places it comes last.
        width = items.shape[1]
        shift = (items == PADDING).sum(axis=1, keepdims=True)
        return np.take_along_axis(items, (np.arange(width) + shift) % width, axis=1)


def _blocks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def _outfit_hashes(catalog: Catalog) -> UInt64Array:
    """(n,) ascending hashes of the item sets of all outfits, available or not."""
    blocks = range(0, max(1, catalog.n_outfits), DRAWS_PER_BLOCK)
    return np.unique(
        np.concatenate(
            [set_hashes(catalog.outfit_items[start : start + DRAWS_PER_BLOCK]) for start in blocks]
        )
    )


def user_neighbourhoods(
    user_vectors: Float32Array, count: int, seed: int, sample: int = SAMPLE_USERS
) -> Float32Array:
    """Unit vectors `(C, d)` of up to `count` groups of users with like taste.

    Spherical k-means (Dhillon and Modha, 2001) of `user_vectors (U, d)`: at most `sample` of them,
    drawn by `seed`. A group that loses all its users starts again at the user who is farthest from
    the middle of their group. Fewer groups come back where there are fewer users with a direction.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(user_vectors), min(sample, len(user_vectors)), replace=False)
    users = _unit(user_vectors[np.sort(chosen)])
    users = users[users.any(axis=1)]
    count = min(count, len(users))
    middles = users[np.sort(rng.choice(len(users), count, replace=False))]
    if count == 0:
        return middles
    before = None
    for _ in range(ROUNDS):
        cosines = users @ middles.T
        group = cosines.argmax(axis=1)
        empty = np.setdiff1d(np.arange(count), group)
        if len(empty):
            nearest = cosines[np.arange(len(users)), group]
            group[np.argsort(nearest, kind="stable")[: len(empty)]] = empty
        if before is not None and (group == before).all():
            break
        before = group
        members = (group == np.arange(count)[:, None]).astype(np.float32)
        sums = _unit(members @ users)
        middles = np.where(sums.any(axis=1, keepdims=True), sums, middles)
    return middles


def keep_best_mixes(
    mix_vectors: Float32Array, neighbourhoods: Float32Array, budget: int
) -> Int64Array:
    """Up to `budget` of the mixes `(n, d)`: those that rank highest with some neighbourhood.

    Every neighbourhood `(C, d)` ranks all mixes by score. First come those that are somebody's
    first, then those that are somebody's second, and so on until the budget is used; within a
    place the order is that of the neighbourhoods. So every taste gets its r best, for one r.

    Returns:
        `(<= budget,)` int64 indices in that order, each once.
    """
    budget = min(budget, len(mix_vectors))
    if budget == 0 or len(neighbourhoods) == 0:
        return np.empty(0, np.int64)
    depth = -(-budget // len(neighbourhoods))
    while True:
        depth = min(depth, len(mix_vectors))
        ranked = top_k(neighbourhoods, mix_vectors, depth)[0]
        mixes, first = np.unique(ranked.T, return_index=True)
        if len(mixes) >= budget:
            return mixes[np.argsort(first)][:budget]
        depth *= 2  # tastes agree on many: look further down


def mix_ids(items: Int32Array, item_ids: Sequence[str]) -> tuple[str, ...]:
    """The outfit id of each row of `items (n, M)`: the same items have it in every night."""
    rows = items.tolist()
    return tuple(_mix_id(sorted(item_ids[i] for i in row if i != PADDING)) for row in rows)


def _mix_id(names: list[str]) -> str:
    # No id holds the separator: Postgres has no text with a zero byte.
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()
    return ID_PREFIX + digest[:ID_DIGITS]


def _unit(vectors: Float32Array) -> Float32Array:
    """(n, d) of length 1; a zero vector stays one."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    return np.asarray(unit, np.float32)
