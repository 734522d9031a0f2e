"""The benchmark of writing runs end to end, at a size that says nothing about speed."""

from __future__ import annotations

import pytest

from recjob.bench.load import bench_load


def test_both_loads_and_every_step_are_measured() -> None:
    found = bench_load(seed=0, users=300, places=4, outfits=50, repeats=2)
    assert (found.users, found.places, found.repeats) == (300, 4, 2)
    # Of a row: 2 for the number of fields, 4 for the width of each of 5, two keys of 4, "warm",
    # and two arrays with 20 of header and 8 for each element.
    assert found.bytes == 300 * (2 + 5 * 4 + 2 * 4 + 4 + 2 * (20 + 4 * 8))
    assert found.ratio == pytest.approx(found.bare_seconds / found.ours_seconds)
    assert found.users_per_second == pytest.approx(300 / found.ours_seconds)
    assert found.recommendations_per_second == pytest.approx(1200 / found.ours_seconds)
    assert [step.name for step in found.steps] == [
        "check, encode, COPY",
        "primary key, CHECK, ANALYZE",
        "checks in the database",
        "transaction of the load, all of it",
        "attach",
        "flip",
    ]
    assert all(step.seconds > 0 for step in found.steps)
