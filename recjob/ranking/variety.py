"""The list for strangers: popular, and varied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray
from recjob.ranking.rules import Caps

Int64Array = NDArray[np.int64]


def varied_popular(
    scores: NDArray[Any],
    outfit_vectors: NDArray[np.float32],
    k: int,
    *,
    relevance: float,
    pool: int,
    allowed: BoolArray | None = None,
    caps: Caps | None = None,
) -> Int64Array:
    """Up to `k` outfits by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Each step takes the outfit with the largest
    `relevance * popularity - (1 - relevance) * cosine to the nearest outfit already taken`,
    with popularity scaled to [0, 1] within the pool. The first is the most popular one. Outfits
    that would break a cap are passed over; when the pool is used up, less popular ones follow.
    The same rule as `choose_lists`, for one list and without a compiled pass to wait for.

    Args:
        scores: `(N,)` popularity.
        outfit_vectors: `(N, d)` of any length.
        k: length of the list; fewer come back where fewer are allowed.
        relevance: 1 is pure popularity, 0 pure variety (after the first).
        pool: choose among so many most popular outfits (at least `k`).
        allowed: `(N,)` bool, outfits that may be taken; None: all.
        caps: of the list; None: none.

    Returns:
        Indices `(<= k,)` int64 in the order of the list. Ties go to the more popular outfit,
        then to the lower index.
    """
    indices = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    ranked = indices[np.lexsort((indices, -scores[indices].astype(np.float64)))]
    if not len(ranked):
        return ranked
    n_pool = min(max(pool, k), len(ranked))
    popularity = scores[ranked[:n_pool]].astype(np.float64)
    span = popularity[0] - popularity[-1]
    gain = (popularity - popularity[-1]) / (span if span > 0 else 1.0)
    vectors = outfit_vectors[ranked[:n_pool]].astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    nearest = np.full(n_pool, -1.0)  # cosine to the nearest outfit already taken
    free = np.ones(len(ranked), np.bool_)
    taken: list[int] = []
    while len(taken) < k and free.any():
        if free[:n_pool].any():
            marginal = relevance * gain - (1 - relevance) * nearest
            marginal[~free[:n_pool]] = -np.inf
            best = int(marginal.argmax())
            nearest = np.maximum(nearest, vectors @ vectors[best])
        else:
            best = int(free.argmax())
        taken.append(best)
        free[best] = False
        if caps is not None:
            free &= ~_breaking(ranked, ranked[taken], caps)
    return np.asarray(ranked[taken], np.int64)


def _breaking(outfits: Int64Array, taken: Int64Array, caps: Caps) -> BoolArray:
    """(n,) True where one of `outfits (n,)` may not join the list of those `taken (t,)`."""
    breaking = np.zeros(len(outfits), np.bool_)
    if caps.max_outfits_per_item:
        items, uses = np.unique(caps.outfit_items[taken], return_counts=True)
        often = items[(uses >= caps.max_outfits_per_item) & (items >= 0)]
        if len(often):
            breaking |= np.isin(caps.outfit_items[outfits], often).any(axis=1)
    if caps.max_per_pattern:
        patterns, uses = np.unique(caps.patterns[taken], return_counts=True)
        often = patterns[uses >= caps.max_per_pattern]
        breaking |= np.isin(caps.patterns[outfits], often)
    return breaking
