"""Ranking metrics per user (Sec. 4.1.2). Ties favour nobody.

`auc`, `ndcg_mean` and `ndcg` take one user's 1-D arrays. `grouped` computes all three for many
users at once; tests hold the two ways equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class GroupedMetrics:
    """Metrics per group, in the order of `group`."""

    group: IntArray
    """(G,) the groups, ascending."""
    auc: FloatArray
    ndcg_mean: FloatArray
    ndcg: FloatArray


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve; a tie of a positive and a negative counts half.

    Args:
        scores: `(n,)` finite.
        labels: `(n,)` of 0 and 1 (or bool), both present.

    Raises:
        ValueError: labels of one class, NaN, or shapes that differ.
    """
    return float(_one(scores, labels).auc[0])


def ndcg_mean(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean of NDCG@m over every cutoff m = 1..n, the measure behind the paper's tables.

    Gain 2^y - 1, discount log2(max(rank, 2)). Tied outfits share their expected gain. Arguments
    and errors as for `auc`.
    """
    return float(_one(scores, labels).ndcg_mean[0])


def ndcg(scores: ArrayLike, labels: ArrayLike) -> float:
    """The usual NDCG over the whole list: gain y, discount log2(rank + 1), ties in expectation.

    Arguments and errors as for `auc`.
    """
    return float(_one(scores, labels).ndcg[0])


def grouped(group: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> GroupedMetrics:
    """AUC, ndcg_mean and ndcg of every group (user) at once.

    Args:
        group: `(n,)` int, the user of each scored outfit, in any order.
        scores: `(n,)` finite.
        labels: `(n,)` of 0 and 1; every group needs both.

    Raises:
        ValueError: a group with labels of one class, NaN, or shapes that differ.
    """
    group, scores, labels = (np.asarray(x) for x in (group, scores, labels))
    if scores.ndim != 1 or scores.shape != labels.shape or scores.shape != group.shape:
        raise ValueError(
            f"1-D arrays of one length are needed, got {group.shape}, {scores.shape}, "
            f"{labels.shape}"
        )
    if scores.size == 0:
        raise ValueError("no scores")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    order = np.lexsort((-scores, group))
    group, scores, gains = group[order], scores[order], labels[order].astype(np.float64)
    new_group = np.r_[True, group[1:] != group[:-1]]
    start = np.flatnonzero(new_group)
    size = np.diff(np.r_[start, group.size])
    positives = np.add.reduceat(gains, start)
    one_class = (positives == 0) | (positives == size)
    if one_class.any():
        raise ValueError(f"group {group[start[one_class.argmax()]]} has labels of one class")
    rank = np.arange(group.size) - np.repeat(start, size) + 1  # from 1, in each group

    # Runs of equal score within a group: mean rank for AUC, mean gain for NDCG.
    new_tie = new_group | np.r_[True, scores[1:] != scores[:-1]]
    tie_start = np.flatnonzero(new_tie)
    tie_size = np.diff(np.r_[tie_start, group.size])
    mean_rank = np.repeat(np.add.reduceat(rank, tie_start) / tie_size, tie_size)
    mean_gain = np.repeat(np.add.reduceat(gains, tie_start) / tie_size, tie_size)

    rank_sum = np.add.reduceat(mean_rank * gains, start)
    negatives = size - positives
    # Ranks count from the best, so the sum is smallest where positives win.
    auc_values = (positives * negatives + positives * (positives + 1) / 2 - rank_sum) / (
        positives * negatives
    )
    ideal = (rank <= np.repeat(positives, size)).astype(np.float64)
    peer_discount = 1 / np.log2(np.maximum(rank, 2))
    peer = _running(mean_gain * peer_discount, start, size)
    peer_ideal = _running(ideal * peer_discount, start, size)
    discount = 1 / np.log2(rank + 1)
    return GroupedMetrics(
        group=group[start].astype(np.int64),
        auc=auc_values,
        ndcg_mean=np.add.reduceat(peer / peer_ideal, start) / size,
        ndcg=np.add.reduceat(mean_gain * discount, start)
        / np.add.reduceat(ideal * discount, start),
    )


def _running(values: FloatArray, start: IntArray, size: IntArray) -> FloatArray:
    """Cumulative sum that begins anew in each group."""
    total = np.cumsum(values)
    before = np.repeat(total[start] - values[start], size)
    return total - before


def _one(scores: ArrayLike, labels: ArrayLike) -> GroupedMetrics:
    scores = np.asarray(scores)
    return grouped(np.zeros(scores.shape, np.int64), scores, labels)
