"""Two models on the same lists: differences per user, how sure they are, and who gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from recjob.evaluation.bootstrap import Bootstrap, Interval, sign_flip_p
from recjob.evaluation.metrics import GroupedMetrics

METRICS: Final = ("auc", "ndcg_mean", "ndcg")
"""Fields of `GroupedMetrics`."""
_EQUAL: Final = 1e-12
"""Metrics of a user that are this near are the same but for the order of additions."""


@dataclass(frozen=True)
class PairedDifference:
    """One metric of models A and B, and A minus B over the same users."""

    metric: str
    mean_a: float
    mean_b: float
    difference: float
    """Mean over users of A minus B."""
    interval: Interval | None
    """Of the difference, by resampling users; None without draws."""
    better: float
    """Share of the users for whom A is better."""
    worse: float
    equal: float
    p_value: float
    """Two-sided sign-flip permutation test of the difference being 0."""


def paired_differences(
    a: GroupedMetrics, b: GroupedMetrics, bootstrap: Bootstrap
) -> tuple[PairedDifference, ...]:
    """A minus B in every metric.

    Raises ValueError where the two were not measured on the same users, or on none.
    """
    if not np.array_equal(a.group, b.group) or not a.group.size:
        raise ValueError("two models are compared on the same users, and on one at least")
    of_a = np.stack([getattr(a, metric) for metric in METRICS], axis=1)
    of_b = np.stack([getattr(b, metric) for metric in METRICS], axis=1)
    differences = of_a - of_b
    differences[np.abs(differences) < _EQUAL] = 0
    intervals = bootstrap.intervals(differences)
    return tuple(
        PairedDifference(
            metric=metric,
            mean_a=float(of_a[:, column].mean()),
            mean_b=float(of_b[:, column].mean()),
            difference=float(differences[:, column].mean()),
            interval=intervals[column],
            better=float((differences[:, column] > 0).mean()),
            worse=float((differences[:, column] < 0).mean()),
            equal=float((differences[:, column] == 0).mean()),
            p_value=sign_flip_p(differences[:, column], bootstrap.seed),
        )
        for column, metric in enumerate(METRICS)
    )
