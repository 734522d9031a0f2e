"""A run as a whole, and when it is too far from the last one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recjob.jobs.night_statistics import (
    RunStatistics,
    broken_limit,
    chance_index,
    score_shift,
    stability_index,
)
from recjob.settings import LimitSettings
from recjob.store.run_lists import VISITOR, RunLists

LIMITS = LimitSettings(max_user_loss=0.1, max_coverage_loss=0.5, max_score_shift=0.25)


def lists(users: list[int], outfits: list[list[int]], kind: int = 0) -> RunLists:
    places = np.array(outfits, np.int32)
    return RunLists(
        users=np.array(users, np.int32),
        kinds=np.full(len(users), kind, np.int32),
        outfits=places,
        scores=np.where(places < 0, 0, 0.5).astype(np.float32),
    )


def test_only_what_readers_see_counts() -> None:
    statistics = RunStatistics("student", n_outfits=10, n_candidates=8, shown=2)
    statistics.add(lists([VISITOR], [[9, 8, 7]], kind=2), cosines=False)
    statistics.add(lists([0, 1], [[0, 1, 5], [1, -1, -1]]), cosines=True)
    statistics.add(lists([2], [[2, 3, 4]], kind=1), cosines=True)
    result = statistics.result()
    assert (result["lists"], result["users"]) == (3, {"warm": 2, "cold": 1, "stranger": 0})
    assert (result["outfits"], result["coverage"]) == (4, 0.5)  # 0 to 3 of 8
    assert (result["shortest_list"], result["short_lists"]) == (1, 1)
    assert result["score_mean"] == 0.5
    assert sum(result["score_histogram"]) == 5


def test_a_run_of_nobody() -> None:
    result = RunStatistics("student", 10, 8, 2).result()
    assert (result["lists"], result["coverage"], result["shortest_list"]) == (0, 0, 0)


def run(**changes: Any) -> dict[str, Any]:
    histogram = [0] * 20
    histogram[12:15] = [5000, 10000, 5000]
    return {
        "model": "student-1",
        "lists": 1000,
        "coverage": 0.4,
        "score_mean": 0.35,
        "score_histogram": histogram,
    } | changes


def shifted(by: int) -> list[int]:
    histogram: list[int] = run()["score_histogram"]
    return histogram[-by:] + histogram[:-by]


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (run(), None),
        (run(lists=900), None),
        (run(lists=899), "899 lists instead of 1000"),
        (run(coverage=0.2), None),
        (run(coverage=0.19), "19.0% of the candidates are in a list instead of 40.0%"),
        (run(score_histogram=shifted(1)), "population stability index"),
        (run(score_histogram=shifted(1), model="student-2"), None),  # another model, other scores
        (run(lists=2000, coverage=1.0), None),  # more is no harm
    ],
)
def test_limits(now: dict[str, Any], reason: str | None) -> None:
    found = broken_limit(now, run(), LIMITS)
    assert found is None if reason is None else found is not None and reason in found


def test_the_first_run_has_nothing_to_be_compared_with() -> None:
    assert broken_limit(run(lists=1), None, LIMITS) is None
    assert broken_limit(run(lists=1), run(lists=0), LIMITS) is None


def test_one_of_few_users_may_always_go() -> None:
    assert broken_limit(run(lists=4), run(lists=5), LIMITS) is None
    assert broken_limit(run(lists=3), run(lists=5), LIMITS) is not None


def test_a_small_shop_may_fluctuate() -> None:
    histogram = [0] * 20
    histogram[12:15] = [9000, 9000, 2000]
    many = broken_limit(run(score_histogram=histogram), run(), LIMITS)
    assert many is not None
    assert "stability index is 0.26" in many
    few = broken_limit(run(lists=8, score_histogram=histogram), run(lists=8), LIMITS)
    assert few is None


def test_the_index_by_hand() -> None:
    before, after = np.array([1, 3]), np.array([2, 2])
    expected = 0.25 * np.log(0.5 / 0.25) - 0.25 * np.log(0.5 / 0.75)
    assert stability_index(before, after) == pytest.approx(expected)
    assert stability_index(before, before) == 0
    assert stability_index(before, np.zeros(2)) == 0


def test_the_shift_is_told_also_where_models_differ() -> None:
    last = {"model": "a", "score_histogram": [50, 50]}
    now = {"model": "b", "score_histogram": [80, 20]}
    shift = stability_index(*np.array([[5, 5], [8, 2]]))
    assert score_shift(now, last) == {"score_shift": pytest.approx(shift), "same_model": False}
    assert score_shift(now, now) == {"score_shift": 0, "same_model": True}
    unknown = {"score_shift": None, "same_model": None}
    assert score_shift(now, None) == unknown
    assert score_shift(now, {"lists": 3}) == unknown  # written by an earlier version


def test_what_chance_gives() -> None:
    rng = np.random.default_rng(0)
    shares = [0.2, 0.3, 0.3, 0.2]
    found = [
        stability_index(rng.multinomial(300, shares), rng.multinomial(500, shares))
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(chance_index(4, 300, 500), rel=0.1)
