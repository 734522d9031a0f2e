"""How alike two models rank the same outfits: Spearman's rank correlation, user by user."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def rank_correlations(
    group: ArrayLike, first: ArrayLike, second: ArrayLike
) -> tuple[IntArray, FloatArray]:
    """Spearman's correlation of two scores within every group (user) at once.

    Args:
        group: `(n,)` int, the user of each scored outfit, in any order.
        first: `(n,)` finite scores of one model; tied outfits share their mean rank.
        second: `(n,)` those of the other.

    Returns:
        `(G,)` the groups, ascending, and `(G,)` their correlations; nan where a model gives all
        outfits of a user the same score.

    Raises:
        ValueError: shapes that differ, nothing at all, or a score that is not finite.
    """
    group, first, second = (np.asarray(values) for values in (group, first, second))
    if group.ndim != 1 or not group.shape == first.shape == second.shape or not group.size:
        raise ValueError(
            "1-D arrays of one length are needed, and not of none, got "
            f"{group.shape}, {first.shape}, {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("scores must be finite")
    users, place = np.unique(group, return_inverse=True)
    count = np.bincount(place)
    # Less the mean rank, which is the same for both models.
    a, b = (_ranks(place, scores) - (count[place] + 1) / 2 for scores in (first, second))
    shared = np.bincount(place, weights=a * b)
    spread = np.sqrt(np.bincount(place, weights=a * a) * np.bincount(place, weights=b * b))
    result = np.full(users.size, np.nan)
    return users.astype(np.int64), np.divide(shared, spread, out=result, where=spread > 0)


def _ranks(place: NDArray[np.intp], scores: NDArray[np.generic]) -> FloatArray:
    """(n,) rank of each score in its group, from 1, the lowest first; ties share their mean."""
    order = np.lexsort((scores, place))
    group, ordered = place[order], scores[order]
    new_group = np.r_[True, group[1:] != group[:-1]]
    start = np.flatnonzero(new_group)
    rank = np.arange(group.size) - np.repeat(start, np.diff(np.r_[start, group.size])) + 1
    tie_start = np.flatnonzero(new_group | np.r_[True, ordered[1:] != ordered[:-1]])
    tie_size = np.diff(np.r_[tie_start, group.size])
    result = np.empty(group.size)
    result[order] = np.repeat(np.add.reduceat(rank, tie_start) / tie_size, tie_size)
    return result
