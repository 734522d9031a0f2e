"""The figures for Prometheus are those of the ledger, also after old runs have left it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from recjob.errors import UserError
from recjob.monitoring.run_metrics import RunMetrics
from recjob.monitoring.snapshot import MetricsSnapshot, merged
from recjob.store.database import Database, administrator
from recjob.store.ledger import Lease, Locks
from recjob.store.ledger_totals import fold_runs
from recjob.store.metrics import SILENT_SECONDS, catalog_mark, count_catalog, read_snapshot
from recjob.store.models import activate
from recjob.store.retention import drop_schedule_rows
from tests.store.registry import register_model

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def add_run(
    database: Database,
    job: str = "embed",
    outcome: str = "done",
    days_ago: float = 0,
    seconds: float = 60,
    stages: Sequence[Mapping[str, Any]] = (),
    metrics: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> int:
    """A run in the ledger; its number."""
    started = NOW - timedelta(days=days_ago)
    ended = started + timedelta(seconds=seconds)
    with database.begin() as connection:
        run = connection.scalar(
            text(
                "INSERT INTO job_run (job, outcome, started, heartbeat, ended, stages, metrics, "
                "parameters, host, pid) VALUES (:job, :outcome, :started, :ended, "
                "CASE :outcome WHEN 'running' THEN NULL ELSE cast(:ended AS timestamptz) END, "
                "cast(:stages AS jsonb), cast(:metrics AS jsonb), cast(:parameters AS jsonb), "
                "'here', 1) RETURNING run_id"
            ),
            {
                "job": job,
                "outcome": outcome,
                "started": started,
                "ended": ended,
                "stages": json.dumps(list(stages)),
                "metrics": json.dumps(metrics or {}),
                "parameters": json.dumps(parameters or {}),
            },
        )
    return int(run)


def stage(
    name: str, seconds: float, items: int = 0, memory: int = 1, gpu: int | None = None
) -> Any:
    """As the ledger keeps it."""
    return {
        "name": name,
        "seconds": seconds,
        "items": items,
        "peak_memory_bytes": memory,
        "peak_gpu_memory_bytes": gpu,
    }


def latencies(*seconds: float, edges: Sequence[float] = (0.1, 1.0), **labels: str) -> Any:
    """As the ledger keeps them."""
    metrics = RunMetrics(edges)
    for value in seconds:
        metrics.observe("recjob_scoring_batch_seconds", value, **(labels or {"engine": "fp32"}))
    return metrics.as_json()


def snapshot(database: Database, *jobs: str) -> MetricsSnapshot:
    with database.connect() as connection:
        return read_snapshot(connection, jobs)


def test_an_empty_database(database: Database) -> None:
    found = snapshot(database, "embed")
    assert found.jobs["embed"].runs == {}
    assert (found.jobs["embed"].last_start, found.jobs["embed"].last_outcome) == (None, None)
    assert (found.published, found.run_held) == (None, None)
    assert found.catalog is not None
    assert found.catalog.available == 0


def test_jobs(database: Database) -> None:
    add_run(database, days_ago=3, seconds=10)
    add_run(database, days_ago=2, outcome="skipped")
    add_run(database, days_ago=1, outcome="failed", seconds=30)
    add_run(database, "gate", "refused", days_ago=1)
    found = snapshot(database, "import").jobs
    assert list(found) == ["embed", "gate", "import"]
    embed = found["embed"]
    assert embed.runs == {"done": 1, "skipped": 1, "failed": 1}
    assert embed.last_start == (NOW - timedelta(days=1)).timestamp()
    assert embed.last_completion == embed.last_start + 30
    assert embed.last_success == (NOW - timedelta(days=2)).timestamp() + 60
    assert (embed.last_outcome, embed.duration_seconds) == ("failed", 30)
    assert (found["gate"].last_success, found["gate"].last_outcome) == (None, "refused")


def test_a_run_that_lives_and_one_that_was_killed(database: Database) -> None:
    lease = Lease(database, "embed", Locks(), {})
    try:
        add_run(database, days_ago=1)
        # It is silent, but it holds its lock: the database may have been away.
        with database.begin() as connection:
            connection.execute(text("UPDATE job_run SET heartbeat = now() - interval '1 hour'"))
        assert snapshot(database).jobs["embed"].running
    finally:
        lease._drop_connection()  # as a kill does
    found = snapshot(database).jobs["embed"]
    assert (found.running, found.last_outcome) == (False, "done")  # a later run's
    assert found.runs == {"done": 1}  # nobody has written down yet that one was killed


def test_a_killed_run_is_told_before_the_next_job_writes_it_down(database: Database) -> None:
    lease = Lease(database, "embed", Locks(), {})
    lease.beat([stage("read", 2.0, 5)], latencies(0.5))
    lease._drop_connection()
    fresh = snapshot(database).jobs["embed"]
    assert fresh.running  # its connection may only be broken: the next heartbeat takes it again
    with database.begin() as connection:
        connection.execute(
            text("UPDATE job_run SET heartbeat = now() - make_interval(secs => :silent)"),
            {"silent": SILENT_SECONDS + 1},
        )
    found = snapshot(database)
    job = found.jobs["embed"]
    assert (job.running, job.last_outcome, job.runs) == (False, "killed", {})
    assert found.stages["embed", "read"].items_total == 5  # what its heartbeat wrote
    assert sum(found.histograms[0].counts) == 1


def test_stages_are_those_of_the_newest_run_that_has_them(database: Database) -> None:
    add_run(database, stages=[stage("read", 1.5, 10, 100), stage("index", 4, 7, 50, 30)])
    add_run(database, outcome="failed", stages=[stage("read", 2, 20, 90), stage("read", 1, 5, 95)])
    add_run(database, outcome="running", stages=[])
    found = snapshot(database).stages
    read, index = found["embed", "read"], found["embed", "index"]
    assert (read.seconds, read.items, read.peak_memory_bytes) == (3, 25, 95)
    assert (read.seconds_total, read.items_total, read.peak_gpu_memory_bytes) == (4.5, 35, None)
    assert (index.seconds, index.peak_gpu_memory_bytes, index.items_total) == (4, 30, 7)


def test_histograms_add_up_over_runs_and_over_changed_edges(database: Database) -> None:
    add_run(database, metrics=latencies(0.05, 0.5, 3.0, edges=(0.2, 2.0)))
    add_run(database, metrics=latencies(0.5, engine="bf16"))
    add_run(database, metrics=latencies(0.05, 0.5))
    add_run(database, outcome="failed", metrics=latencies(0.1, 5.0))
    found = [part for part in snapshot(database).histograms if part.labels == {"engine": "fp32"}]
    assert [part.edges for part in found] == [(0.1, 1.0), (0.2, 2.0)]  # the newest run's first
    assert found[0].counts == (2, 1, 1)
    whole = merged(found)
    # 0.05 was at most 0.2, so at most 1; 0.5 was at most 2, which no edge of today says.
    assert (whole.edges, whole.counts) == ((0.1, 1.0), (2, 2, 3))
    assert whole.sum == pytest.approx(0.05 + 0.5 + 3.0 + 0.05 + 0.5 + 0.1 + 5.0)


def test_gauges_are_the_last_word(database: Database) -> None:
    for auc in (0.7, 0.8):
        metrics = RunMetrics((1.0,))
        metrics.set("recjob_model_auc", auc, role="student", split="test")
        add_run(database, "evaluate", metrics=metrics.as_json())
    add_run(database, "evaluate", "failed")
    [gauge] = snapshot(database).gauges
    assert (gauge.job, gauge.value) == ("evaluate", 0.8)
    assert gauge.labels == {"role": "student", "split": "test"}


def test_models_and_the_gate(database: Database) -> None:
    with database.begin() as connection:
        for number, decision in enumerate(("passed", "refused", "forced", "refused")):
            register_model(connection, f"s-{number}")
            connection.execute(
                text(
                    "INSERT INTO gate_decision (model_key, decision) "
                    "SELECT model_key, :decision FROM model WHERE model_id = :model"
                ),
                {"decision": decision, "model": f"s-{number}"},
            )
        activate(connection, "s-1")
    found = snapshot(database)
    assert [(model.role, model.model_id) for model in found.models] == [("student", "s-1")]
    assert found.models[0].validation == {}
    assert found.gate.decisions == {"passed": 1, "refused": 2, "forced": 1}
    assert found.gate.last == "refused"
    assert found.gate.last_decided == pytest.approx(time.time(), abs=60)


def test_items_by_state(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO item (item_id, category, image, image_sha256, quarantine_reason, "
                "available) SELECT 'i' || n, 'top', 'i.jpg', "
                "CASE WHEN n > 2 THEN repeat('0', 64) END, CASE WHEN n <= 2 THEN 'broken' END, "
                "n % 3 <> 0 FROM generate_series(1, 9) AS n"
            )
        )
        before = catalog_mark(connection)
        counted = count_catalog(connection)
    assert (counted.available, counted.unavailable, counted.quarantined) == (4, 3, 2)
    add_run(database, "import")
    with database.connect() as connection:
        assert catalog_mark(connection) != before


def counters(found: MetricsSnapshot) -> Any:
    """All that must never fall."""
    return (
        {job: dict(figures.runs) for job, figures in found.jobs.items()},
        {key: (each.items_total, each.seconds_total) for key, each in found.stages.items()},
        [merged([part]) for part in found.histograms],
    )


def test_folding_changes_no_counter(database: Database) -> None:
    add_run(database, days_ago=35, metrics=latencies(0.3, edges=(0.5,)))
    for days in (30, 20, 10, 0):
        # 0.1 and 0.7 have no exact sum in binary: added in another order they would differ.
        stages = [stage("read", 0.1 + days / 7, 3), stage("score", 0.7, 5)]
        add_run(database, days_ago=days, stages=stages, metrics=latencies(0.7, 0.1 * days, 9.0))
        add_run(database, "import", "failed", days_ago=days, stages=stages)
    before = snapshot(database)
    for cut, gone in ((NOW - timedelta(days=15), 5), (NOW + timedelta(days=1), 2)):
        with database.begin() as connection:
            assert fold_runs(connection, cut) == gone
        found = snapshot(database)
        assert counters(found) == counters(before)
    # What is shown of the newest run stays.
    assert found.stages == before.stages
    assert found.jobs == before.jobs
    with database.begin() as connection:
        assert fold_runs(connection, NOW + timedelta(days=1)) == 0
        left = connection.scalar(text("SELECT count(*) FROM job_run"))
    assert left == 2


def test_the_schedules_runs_stay_counted(database: Database) -> None:
    with database.begin() as connection:
        for days, outcome in ((5, "done"), (4, "done"), (3, "failed"), (2, "done"), (1, "running")):
            connection.execute(
                text(
                    "INSERT INTO schedule_run (entry, slot, ended, outcome, host, pid) VALUES "
                    "('embed', :slot, CASE :outcome WHEN 'running' THEN NULL ELSE :slot END, "
                    ":outcome, 'here', 1)"
                ),
                {"slot": NOW - timedelta(days=days), "outcome": outcome},
            )
    counted = {("embed", "done"): 3, ("embed", "failed"): 1}
    assert snapshot(database).schedule_runs == counted
    for age, gone in ((3.5, 2), (0.0, 2)):
        with database.begin() as connection:
            assert drop_schedule_rows(connection, NOW - timedelta(days=age)) == gone
        assert snapshot(database).schedule_runs == counted


def test_what_is_not_folded(database: Database) -> None:
    kept = add_run(database, "nightly-recommend", days_ago=50)
    cut_short = add_run(database, "nightly-recommend", "killed", days_ago=49)
    add_run(database, "nightly-recommend", days_ago=48, parameters={"continues": cut_short})
    add_run(database, "nightly-recommend", "killed", days_ago=47)
    add_run(database, "nightly-recommend", days_ago=46, parameters={"continues": None})
    running = add_run(database, "embed", "running", days_ago=90)
    add_run(database, "embed", days_ago=80)
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO recommendation_run (run_id, shown, statistics) "
                "VALUES (:run, 1, '{\"lists\": 3}')"
            ),
            {"run": kept},
        )
        assert fold_runs(connection, NOW) == 1  # the run that continued another, whose turn is next
        left = set(connection.scalars(text("SELECT run_id FROM job_run")))
        assert {kept, cut_short, running} < left
        assert fold_runs(connection, NOW) == 1
        assert cut_short not in set(connection.scalars(text("SELECT run_id FROM job_run")))


def test_writers_cannot_lose_what_was_counted(database: Database) -> None:
    add_run(database)
    for statement in (
        "DELETE FROM job_run",
        "DELETE FROM ledger_total",
        "UPDATE ledger_total SET runs = 0",
    ):
        with pytest.raises(UserError, match="permission"), database.begin() as connection:
            connection.execute(text(statement))


def test_the_published_run(database: Database) -> None:
    shown = add_run(database, "nightly-recommend", days_ago=2)
    held = add_run(database, "nightly-recommend", "refused", days_ago=1)
    insert = text(
        "INSERT INTO recommendation_run (run_id, shown, statistics, held) "
        "VALUES (:run, 1, '{\"lists\": 3}', :held)"
    )
    with administrator(database.url) as engine, engine.begin() as connection:
        connection.execute(insert, {"run": shown, "held": None})
        connection.execute(text("UPDATE publication SET current_run = :run"), {"run": shown})
    first = snapshot(database)
    assert first.published is not None
    assert (first.published.run_id, first.published.statistics) == (shown, {"lists": 3})
    assert first.run_held is False
    with database.begin() as connection:
        connection.execute(insert, {"run": held, "held": "too few"})
    second = snapshot(database)
    assert second.published is not None
    assert (second.published.run_id, second.run_held) == (shown, True)
