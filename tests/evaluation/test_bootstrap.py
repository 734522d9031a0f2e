"""Intervals hold what they say, and p values are uniform where there is no difference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import t

from recjob.evaluation import bootstrap
from recjob.evaluation.bootstrap import Bootstrap, sign_flip_p, student_quantile

RNG = np.random.default_rng(0)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    hits = 0
    for trial in range(300):
        values = np.random.default_rng(trial).exponential(2.0, (60, 1))
        [interval] = Bootstrap(300, 0.9, seed=trial).intervals(values)
        assert interval is not None
        hits += interval[0] <= 2.0 <= interval[1]
    # Percentile intervals of skewed data hold a little less than they say.
    assert 0.84 < hits / 300 < 0.93


@pytest.mark.parametrize("users", [2, 3, 5, 10])
def test_widened_intervals_of_few_users_lie_as_seldom_above_nothing_as_they_say(users: int) -> None:
    sampling = Bootstrap(300, 0.9, seed=1)
    above = {"as it is": 0, "widened": 0}
    for trial in range(400):
        values = np.random.default_rng(trial).normal(0, 1, (users, 1))
        [interval] = sampling.intervals(values)
        assert interval is not None
        below = values.mean() - interval[0]
        above["as it is"] += interval[0] > 0
        above["widened"] += values.mean() > sampling.widening(users) * below
    # 5 % is what is allowed; percentiles of few users are also too narrow in ways besides.
    assert above["widened"] / 400 < 0.09
    assert above["widened"] < above["as it is"]


def test_of_many_users_an_interval_is_wide_enough() -> None:
    assert 1 < Bootstrap(1, 0.95, seed=0).widening(5000) < 1.001


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 1000])
@pytest.mark.parametrize("probability", [0.75, 0.9, 0.975, 0.995])
def test_quantiles_of_students_t(freedom: int, probability: float) -> None:
    exact = t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(exact, rel=0.01)


def test_resampled_means_spread_like_the_mean() -> None:
    values = RNG.normal(3, 2, (500, 2))
    means = Bootstrap(2000, 0.95, seed=1).means(values)
    assert means.shape == (2000, 2)
    np.testing.assert_allclose(means.mean(axis=0), values.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=0) / 500**0.5, rtol=0.08)


def test_columns_share_their_resamplings() -> None:
    values = RNG.random((30, 1))
    means = Bootstrap(50, 0.95, seed=1).means(np.concatenate([values, 3 * values], axis=1))
    np.testing.assert_allclose(means[:, 1], 3 * means[:, 0])
    assert means[:, 0].std() > 0


def test_neither_blocks_nor_time_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.random((37, 3))
    differences = values[:, 0] - 0.45
    whole = Bootstrap(25, 0.95, seed=4).means(values), sign_flip_p(differences, seed=4)
    monkeypatch.setattr(bootstrap, "CELLS_PER_BLOCK", 2000)
    again = Bootstrap(25, 0.95, seed=4).means(values), sign_flip_p(differences, seed=4)
    np.testing.assert_allclose(again[0], whole[0], rtol=1e-12)
    assert again[1] == whole[1]
    assert (Bootstrap(25, 0.95, seed=5).means(values) != whole[0]).any()


def test_without_draws_there_is_no_interval() -> None:
    assert Bootstrap(0, 0.95, seed=0).intervals(RNG.random((9, 2))) == (None, None)


def test_samples_that_are_not_finite_are_left_out() -> None:
    samples = np.array([np.nan, np.inf, *range(101)])
    assert Bootstrap(103, 0.9, seed=0).interval(samples) == pytest.approx((5, 95))


def exact_p(differences: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    found = abs(differences.sum())
    signs = itertools.product((-1, 1), repeat=len(differences))
    return float(np.mean([abs(np.dot(sign, differences)) >= found - 1e-12 for sign in signs]))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_p_equals_that_of_all_signs(shift: float) -> None:
    differences = np.random.default_rng(8).normal(shift, 1, 10)
    assert sign_flip_p(differences, seed=2) == pytest.approx(exact_p(differences), abs=0.02)


def test_p_is_uniform_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PERMUTATIONS", 199)
    p = np.array(
        [sign_flip_p(np.random.default_rng(trial).normal(0, 1, 50), trial) for trial in range(600)]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.06)


def test_p_of_a_real_difference_and_of_none_at_all() -> None:
    assert sign_flip_p(np.random.default_rng(1).normal(0.5, 1, 200), seed=0) == pytest.approx(1e-4)
    assert sign_flip_p(np.zeros(20), seed=0) == 1.0
    # Equal but for rounding in the order of additions: every sign pattern is as far as the found.
    assert sign_flip_p(np.array([0.1]), seed=0) == 1.0
