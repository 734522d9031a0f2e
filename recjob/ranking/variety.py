"""The list for strangers: popular, and varied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray

Int64Array = NDArray[np.int64]


def varied_popular(
    scores: NDArray[Any],
    outfit_vectors: NDArray[np.float32],
    k: int,
    *,
    relevance: float,
    pool: int,
    allowed: BoolArray | None = None,
) -> Int64Array:
    """Up to `k` outfits by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Each step takes the outfit with the largest
    `relevance * popularity - (1 - relevance) * cosine to the nearest outfit already taken`,
    with popularity scaled to [0, 1] within the pool. The first is the most popular one.

    Args:
        scores: `(N,)` popularity.
        outfit_vectors: `(N, d)` of any length.
        k: length of the list; fewer come back where fewer are allowed.
        relevance: 1 is pure popularity, 0 pure variety (after the first).
        pool: choose among so many most popular outfits (at least `k`).
        allowed: `(N,)` bool, outfits that may be taken; None: all.

    Returns:
        Indices `(<= k,)` int64 in the order of the list. Ties go to the more popular outfit,
        then to the lower index.
    """
    indices = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    chosen = indices[np.lexsort((indices, -scores[indices].astype(np.float64)))][: max(pool, k)]
    if not len(chosen):
        return chosen
    popularity = scores[chosen].astype(np.float64)
    span = popularity[0] - popularity[-1]
    gain = (popularity - popularity[-1]) / (span if span > 0 else 1.0)
    vectors = outfit_vectors[chosen].astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    nearest = np.full(len(chosen), -1.0)  # cosine to the nearest outfit already taken
    taken = [0]
    for _ in range(min(k, len(chosen)) - 1):
        nearest = np.maximum(nearest, vectors @ vectors[taken[-1]])
        marginal = relevance * gain - (1 - relevance) * nearest
        marginal[taken] = -np.inf
        taken.append(int(marginal.argmax()))
    return np.asarray(chosen[taken], np.int64)
