"""What a run counts for Prometheus."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from recjob.monitoring.run_metrics import RunMetrics


def test_a_latency_falls_into_the_first_bucket_that_holds_it() -> None:
    metrics = RunMetrics((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 7.0):
        metrics.observe("recjob_x_seconds", seconds, engine="torch")
    metrics.observe("recjob_x_seconds", 0.2, engine="onnx")
    first, second = metrics.as_json()["histograms"]
    assert first["counts"] == [2, 2, 1]
    assert first["sum"] == pytest.approx(8.65)
    assert (first["labels"], second["labels"]) == ({"engine": "torch"}, {"engine": "onnx"})


def test_the_last_value_of_a_gauge_counts() -> None:
    metrics = RunMetrics(())
    metrics.set("recjob_users", 3, kind="warm", role="x")
    metrics.set("recjob_users", 4, role="x", kind="warm")
    assert metrics.as_json()["gauges"] == [
        {"name": "recjob_users", "labels": {"kind": "warm", "role": "x"}, "value": 4}
    ]
    json.dumps(metrics.as_json())


def test_threads_lose_no_count() -> None:
    metrics = RunMetrics((1.0,))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: metrics.observe("recjob_x_seconds", 0.5), range(4000)))
    assert metrics.as_json()["histograms"][0]["counts"] == [4000, 0]


def test_a_block_that_fails_is_not_timed() -> None:
    metrics = RunMetrics((1.0,))
    with pytest.raises(ValueError), metrics.timed("recjob_x_seconds"):
        raise ValueError
    with metrics.timed("recjob_x_seconds"):
        pass
    assert sum(metrics.as_json()["histograms"][0]["counts"]) == 1
