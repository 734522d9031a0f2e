"""Top lists over the whole catalog: recall, coverage, novelty and diversity, from arrays.

A list is a row of `lists (U, k)`: outfits of the catalog, best first, -1 in empty places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Float32Array, Int32Array, Int64Array

FloatArray = NDArray[np.float64]

CELLS_PER_BLOCK: Final = 2**22
"""Places (users times places of a list, vectors times their length) worked on at once."""


@dataclass(frozen=True)
class ListQuality:
    """What lists over the whole catalog are worth; nan where there is nothing to measure."""

    recall: FloatArray
    """(U,) share of a user's held-out positives that are in the user's list; nan without any."""
    coverage: float
    """Share of the candidates that are in some list."""
    novelty_bits: float
    """Mean self-information of the recommended outfits' items (`item_surprise`)."""
    diversity: FloatArray
    """(U,) 1 - mean cosine of the outfits of a list; nan for lists of fewer than two."""


def list_quality(
    lists: Int64Array,
    held_out: Int64Array,
    candidates: BoolArray,
    outfit_surprise: FloatArray,
    outfit_vectors: Float32Array,
) -> ListQuality:
    """All four measures.

    Args:
        lists: `(U, k)`.
        held_out: `(n, 2)` row of `lists`, outfit that this user likes; unique.
        candidates: `(N,)` True where an outfit could have been recommended.
        outfit_surprise: `(N,)` bits, of `outfit_surprises`.
        outfit_vectors: `(N, d)` unit vectors; the same for every method that is to be compared.
    """
    shown = lists[lists != PADDING]
    return ListQuality(
        recall=recall(lists, held_out, len(candidates)),
        coverage=len(np.unique(shown)) / max(int(candidates.sum()), 1),
        novelty_bits=float(outfit_surprise[shown].mean()) if shown.size else float("nan"),
        diversity=diversity(lists, outfit_vectors),
    )


def recall(lists: Int64Array, held_out: Int64Array, n_outfits: int) -> FloatArray:
    """(U,) share of each user's `held_out (n, 2)` (row, outfit) that is in the user's list."""
    n_users = len(lists)
    found = np.flatnonzero(lists.ravel() != PADDING)
    listed = found // lists.shape[1] * n_outfits + lists.ravel()[found]
    hit = np.isin(held_out[:, 0] * n_outfits + held_out[:, 1], listed)
    wanted = np.bincount(held_out[:, 0], minlength=n_users)
    hits = np.bincount(held_out[:, 0], weights=hit, minlength=n_users)
    result: FloatArray = np.full(n_users, np.nan)
    return np.divide(hits, wanted, out=result, where=wanted > 0)


def outfit_surprises(outfit_items: Int32Array, item_counts: Int64Array) -> FloatArray:
    """(N,) bits: mean over the items of each outfit (N, M) of -log2 of the item's popularity share.

    The self-information of a recommendation (Zhou et al., 2010; Castells, Vargas and Wang, 2011).
    An outfit is mostly liked by one user, so popularity is that of its items: the share of an item
    in `item_counts (n_items,)`, its training positives. One is added to every count, so that an
    item which nobody has worn yet is rare and not infinitely surprising.
    """
    share = (item_counts + 1) / (item_counts.sum() + len(item_counts))
    # One place more, zero, is what padding (-1) points to.
    bits = np.append(-np.log2(share), 0.0)
    real = (outfit_items != PADDING).sum(axis=1)
    result: FloatArray = bits[outfit_items].sum(axis=1) / np.maximum(real, 1)
    return result


def diversity(lists: Int64Array, outfit_vectors: Float32Array) -> FloatArray:
    """(U,) 1 - mean cosine over the pairs of each list (Smyth and McClave, 2001; Ziegler, 2005)."""
    result = np.full(len(lists), np.nan)
    block = max(1, CELLS_PER_BLOCK // max(lists.shape[1] * outfit_vectors.shape[1], 1))
    for start in range(0, len(lists), block):
        rows = lists[start : start + block]
        real = rows != PADDING
        vectors = np.where(real[..., None], outfit_vectors[rows], 0).astype(np.float64)
        total = vectors.sum(axis=1)
        own = np.square(vectors).sum(axis=(1, 2))
        n = real.sum(axis=1)
        pairs = n * (n - 1)
        # The sum over ordered pairs of v . w is |sum of v|^2 less what each has with itself.
        cosines = np.square(total).sum(axis=1) - own
        mean = np.divide(cosines, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)
        result[start : start + block] = 1 - mean
    return result


def random_lists(
    n_users: int,
    k: int,
    candidates: BoolArray,
    exclude: tuple[NDArray[Any], NDArray[Any]],
    seed: int,
) -> Int64Array:
    """(n_users, k) random candidates without repetition, none of them a user's own.

    The candidates stand in one random order, in a circle; each user goes round it from a random
    start and takes the first k that are allowed. So any candidate is as likely as any other, and
    users are independent.

    Args:
        n_users: rows of the result.
        k: length of a list; -1 fills what the candidates cannot.
        candidates: `(N,)` bool.
        exclude: CSR `(indptr (n_users + 1,), indices)`, outfits that a user must not get.
        seed: of the order and the starts.
    """
    rng = np.random.default_rng([seed, 31])
    circle = rng.permutation(np.flatnonzero(candidates))
    starts = rng.integers(0, max(circle.size, 1), n_users)
    lists = np.full((n_users, k), PADDING, np.int64)
    indptr, indices = (part.astype(np.int64) for part in exclude)
    counts = np.diff(indptr)
    width = min(k + int(counts.max(initial=0)), circle.size)
    if width == 0:
        return lists
    excluded = np.sort(np.repeat(np.arange(n_users), counts) * len(candidates) + indices)
    block = max(1, CELLS_PER_BLOCK // width)
    for start in range(0, n_users, block):
        rows = np.arange(start, min(start + block, n_users))
        met = circle[(starts[rows, None] + np.arange(width)) % circle.size]
        allowed = ~np.isin(rows[:, None] * len(candidates) + met, excluded)
        # Stable: those that are allowed move to the front, in the order of the circle.
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        taken = np.where(
            np.take_along_axis(allowed, order, axis=1),
            np.take_along_axis(met, order, axis=1),
            PADDING,
        )
        lists[rows, : taken.shape[1]] = taken
    return lists
