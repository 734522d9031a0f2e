"""Rank correlations of all users at once, against SciPy's of one user at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from recjob.evaluation.agreement import rank_correlations


def test_every_user_against_scipy() -> None:
    rng = np.random.default_rng(5)
    user = rng.permutation(np.repeat([3, 8, 9, 40], [11, 22, 5, 77]))
    a = rng.integers(0, 12, user.size).astype(np.float32)  # with ties
    b = (a + rng.normal(0, 5, user.size)).astype(np.float32)
    users, found = rank_correlations(user, a, b)
    assert users.tolist() == [3, 8, 9, 40]
    for one, value in zip(users, found, strict=True):
        expected = spearmanr(a[user == one], b[user == one]).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_same_the_opposite_and_nothing() -> None:
    user = np.repeat([0, 1, 2], 4)
    a = np.tile([0.1, 0.4, 0.2, 0.9], 3)
    b = np.concatenate([np.exp(a[:4]), -a[:4], np.zeros(4)])
    _, found = rank_correlations(user, a, b)
    np.testing.assert_allclose(found, [1, -1, np.nan])


@pytest.mark.parametrize(
    "arrays",
    [
        ([], [], []),
        ([0, 0], [1.0, 2.0], [1.0]),
        ([0, 0], [1.0, np.nan], [1.0, 2.0]),
        ([[0]], [[1.0]], [[1.0]]),
    ],
)
def test_what_cannot_be_ranked(arrays: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"1-D arrays of one length|must be finite"):
        rank_correlations(*arrays)
