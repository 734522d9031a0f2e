"""Paired differences equal plain loops over users."""

from __future__ import annotations

import numpy as np
import pytest

from recjob.evaluation.bootstrap import Bootstrap
from recjob.evaluation.comparison import paired_differences
from recjob.evaluation.metrics import GroupedMetrics, grouped

BOOTSTRAP = Bootstrap(500, 0.95, seed=3)
GROUP = np.repeat(np.arange(40), 11)
LABELS = np.tile([1] + [0] * 10, 40)


def metrics(quality: float, seed: int) -> GroupedMetrics:
    scores = np.random.default_rng(seed).normal(size=GROUP.size) + quality * LABELS
    return grouped(GROUP, scores, LABELS)


def test_it_equals_the_plain_loop() -> None:
    a, b = metrics(1.5, seed=1), metrics(0.3, seed=2)
    found = {row.metric: row for row in paired_differences(a, b, BOOTSTRAP)}
    assert list(found) == ["auc", "ndcg_mean", "ndcg"]
    for metric, row in found.items():
        own = list(zip(getattr(a, metric), getattr(b, metric), strict=True))
        assert row.mean_a == pytest.approx(np.mean([x for x, _ in own]))
        assert row.mean_b == pytest.approx(np.mean([y for _, y in own]))
        assert row.difference == pytest.approx(np.mean([x - y for x, y in own]))
        assert row.better == pytest.approx(np.mean([x > y for x, y in own]))
        assert row.worse == pytest.approx(np.mean([x < y for x, y in own]))
        assert row.equal == pytest.approx(np.mean([x == y for x, y in own]))
        assert row.better + row.worse + row.equal == pytest.approx(1)
        assert row.interval is not None
        assert 0 < row.interval[0] < row.difference < row.interval[1]
        assert row.p_value < 0.01


def test_the_other_way_round() -> None:
    a, b = metrics(0.6, seed=1), metrics(0.5, seed=2)
    for there, back in zip(
        paired_differences(a, b, BOOTSTRAP), paired_differences(b, a, BOOTSTRAP), strict=True
    ):
        assert back.difference == pytest.approx(-there.difference)
        assert (back.better, back.worse) == (there.worse, there.better)
        assert back.p_value == there.p_value
        assert there.interval is not None
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_a_model_and_itself() -> None:
    a = metrics(1.0, seed=1)
    for row in paired_differences(a, a, BOOTSTRAP):
        assert (row.difference, row.interval, row.equal, row.p_value) == (0, (0, 0), 1, 1)


def test_pairing_sees_what_two_intervals_would_not() -> None:
    """Users differ a lot, the two models by little but for everyone."""
    spread = np.random.default_rng(0).uniform(0.2, 0.9, 60)
    users = np.arange(60)
    a = GroupedMetrics(users, spread + 0.01, spread, spread)
    b = GroupedMetrics(users, spread, spread, spread)
    [auc, *_] = paired_differences(a, b, BOOTSTRAP)
    assert auc.interval == pytest.approx((0.01, 0.01))
    assert auc.p_value < 0.001
    assert auc.better == 1


def test_other_users() -> None:
    a = metrics(1.0, seed=1)
    b = GroupedMetrics(a.group + 1, a.auc, a.ndcg_mean, a.ndcg)
    with pytest.raises(ValueError, match="same users"):
        paired_differences(a, b, BOOTSTRAP)
