"""What Prometheus is told, read from the ledger, the registry and the published run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from recjob.monitoring.snapshot import (
    CatalogFigures,
    GateFigures,
    Gauge,
    HistogramFigures,
    JobFigures,
    MetricsSnapshot,
    ModelFigures,
    PublishedFigures,
    StageFigures,
)
from recjob.store.ledger import RUN_CLASS

SILENT_SECONDS: Final = 35
"""A run without its lock has ended when three heartbeats did not come; one that lost the database
takes its lock again with the first."""
STATEMENT_TIMEOUT: Final = "5s"
"""A scrape that takes longer is of no use: Prometheus gives up after ten seconds."""

SINK_CLASS: Final = 7306
"""First number of the advisory lock on the sink, beside those of `store.ledger`."""
SINK_TIMEOUT: Final = "30s"
"""Longest wait for another job that is telling the sink."""

CatalogMark = tuple[int, str] | None
"""Changes whenever an import may have changed the catalog."""

# Counters must never fall, not even by a rounding: Prometheus would take that for a restart and
# count everything again. So seconds are added as decimals, whose sum no order changes; and runs
# that have left the ledger are counted in the same statement as the others, so that a fold at that
# moment counts none of them twice.
_RUNS = text(
    """
    SELECT job, outcome, sum(runs)::bigint AS runs, max(started) AS started, max(ended) AS ended
    FROM (
        SELECT job, outcome, 1 AS runs, started, ended FROM job_run
        UNION ALL
        SELECT job, outcome, runs, NULL, NULL FROM ledger_total
    ) AS run GROUP BY job, outcome
    """
)
# Whose lock is free and who is silent is dead; the next job of any kind will write that down.
_LAST = text(
    """
    WITH held AS MATERIALIZED (
        SELECT objid FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = :run_class
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ), run AS (
        SELECT job, run_id, started, coalesce(ended, heartbeat) AS ended,
            CASE WHEN outcome = 'running' AND run_id::oid NOT IN (SELECT objid FROM held)
                AND heartbeat < now() - make_interval(secs => :silent)
                THEN 'killed' ELSE outcome END AS outcome
        FROM job_run
    )
    SELECT DISTINCT ON (job, outcome = 'running')
        job, outcome, ended, extract(epoch FROM ended - started)::float8 AS seconds
    FROM run ORDER BY job, outcome = 'running', run_id DESC
    """
)
_STAGES = text(
    """
    WITH stage AS (
        SELECT job, run_id, name, sum(seconds) AS seconds, sum(items) AS items,
            max(peak_memory_bytes) AS memory, max(peak_gpu_memory_bytes) AS gpu_memory
        FROM (
            SELECT job, run_id, stages FROM job_run
            UNION ALL
            SELECT job, 0, totals -> 'stages' FROM ledger_total
        ) AS run
        CROSS JOIN LATERAL jsonb_to_recordset(stages) AS stage (
            name text, seconds numeric, items bigint,
            peak_memory_bytes bigint, peak_gpu_memory_bytes bigint
        )
        GROUP BY job, run_id, name
    ), total AS (
        SELECT job, name, sum(seconds) AS seconds, sum(items)::bigint AS items,
            max(run_id) AS run_id
        FROM stage GROUP BY job, name
    )
    SELECT total.job, total.name, total.seconds::float8 AS seconds_total,
        total.items AS items_total, stage.seconds::float8, stage.items::bigint AS items,
        stage.memory, stage.gpu_memory
    FROM total LEFT JOIN stage ON stage.run_id = total.run_id AND total.run_id > 0
        AND stage.job = total.job AND stage.name = total.name
    ORDER BY total.job, total.name
    """
)
_HISTOGRAMS = text(
    """
    WITH part AS MATERIALIZED (
        SELECT run_id, (histogram - '{counts,sum}'::text[])::text AS series,
            histogram -> 'counts' AS counts, (histogram ->> 'sum')::numeric AS sum
        FROM (
            SELECT run_id, metrics -> 'histograms' AS histograms FROM job_run
            UNION ALL
            SELECT 0, totals -> 'histograms' FROM ledger_total
        ) AS run
        CROSS JOIN LATERAL jsonb_array_elements(histograms) AS histogram
    ), summed AS (
        SELECT series, max(run_id) AS run_id, sum(sum)::float8 AS sum FROM part GROUP BY series
    ), bucket AS (
        SELECT series, place, sum(count::bigint)::bigint AS count
        FROM part CROSS JOIN LATERAL jsonb_array_elements_text(counts)
            WITH ORDINALITY AS bucket (count, place)
        GROUP BY series, place
    ), buckets AS (
        SELECT series, array_agg(count ORDER BY place) AS counts FROM bucket GROUP BY series
    )
    SELECT series::jsonb ->> 'name' AS name, series::jsonb -> 'labels' AS labels,
        series::jsonb -> 'edges' AS edges, sum, counts
    FROM summed JOIN buckets USING (series)
    ORDER BY name, series::jsonb -> 'labels', run_id DESC
    """
)
_GAUGES = text(
    """
    SELECT job, run_id, name, labels, value FROM (
        SELECT DISTINCT ON (job, name, labels) job, run_id, name, labels, value
        FROM job_run CROSS JOIN LATERAL jsonb_to_recordset(metrics -> 'gauges')
            AS gauge (name text, labels jsonb, value float8)
        ORDER BY job, name, labels, run_id DESC
    ) AS newest ORDER BY run_id DESC, name, labels
    """
)
_PUBLISHED = text(
    """
    SELECT shown.run_id, extract(epoch FROM shown.written)::float8 AS written, shown.statistics,
        (SELECT held IS NOT NULL FROM recommendation_run ORDER BY run_id DESC LIMIT 1) AS held
    FROM publication LEFT JOIN recommendation_run AS shown ON shown.run_id = current_run
    """
)
_CATALOG = text(
    """
    SELECT count(*) FILTER (WHERE available AND quarantine_reason IS NULL) AS available,
        count(*) FILTER (WHERE NOT available AND quarantine_reason IS NULL) AS unavailable,
        count(*) FILTER (WHERE quarantine_reason IS NOT NULL) AS quarantined
    FROM item
    """
)
_CATALOG_MARK = text(
    "SELECT run_id, outcome FROM job_run WHERE job = 'import' ORDER BY run_id DESC LIMIT 1"
)
_MODELS = text(
    """
    SELECT role, model_id, extract(epoch FROM created)::float8 AS trained,
        CASE jsonb_typeof(metrics -> 'validation') WHEN 'object' THEN metrics -> 'validation'
            ELSE '{}' END AS validation
    FROM model WHERE status = 'active' ORDER BY role
    """
)
_GATE = text(
    """
    SELECT decision, count(*) AS decisions, max(decision_id) AS newest,
        extract(epoch FROM max(decided))::float8 AS decided
    FROM gate_decision GROUP BY decision ORDER BY newest DESC
    """
)
_SCHEDULE_RUNS = text(
    """
    SELECT entry, outcome, sum(runs)::bigint AS runs FROM (
        SELECT entry, outcome, 1 AS runs FROM schedule_run WHERE outcome <> 'running'
        UNION ALL
        SELECT entry, outcome, runs FROM schedule_total
    ) AS run GROUP BY entry, outcome ORDER BY entry, outcome
    """
)


def hold_sink(connection: Connection) -> None:
    """Keep other jobs from telling the sink until this transaction ends.

    Raises TemporaryError where one of them takes longer than `SINK_TIMEOUT`.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = '{SINK_TIMEOUT}'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:group, 0)"), {"group": SINK_CLASS})


def read_snapshot(
    connection: Connection, jobs: Iterable[str], catalog: CatalogFigures | None = None
) -> MetricsSnapshot:
    """All figures; `jobs`: those that are told of even where they never ran.

    `catalog`: where it is known already, so that items need not be counted again. Raises
    TemporaryError where a statement takes longer than `STATEMENT_TIMEOUT`.
    """
    connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    published = connection.execute(_PUBLISHED).one()
    return MetricsSnapshot(
        jobs=_jobs(connection, jobs),
        stages={
            (row.job, row.name): StageFigures(
                items_total=row.items_total,
                seconds_total=row.seconds_total,
                seconds=row.seconds,
                items=row.items,
                peak_memory_bytes=row.memory,
                peak_gpu_memory_bytes=row.gpu_memory,
            )
            for row in connection.execute(_STAGES)
        },
        histograms=tuple(
            HistogramFigures(row.name, row.labels, tuple(row.edges), tuple(row.counts), row.sum)
            for row in connection.execute(_HISTOGRAMS)
        ),
        gauges=tuple(Gauge(**row._mapping) for row in connection.execute(_GAUGES)),
        published=None
        if published.run_id is None
        else PublishedFigures(published.run_id, published.written, published.statistics),
        run_held=published.held,
        catalog=catalog or count_catalog(connection),
        models=tuple(ModelFigures(**row._mapping) for row in connection.execute(_MODELS)),
        gate=_gate(connection),
        schedule_runs={
            (row.entry, row.outcome): row.runs for row in connection.execute(_SCHEDULE_RUNS)
        },
    )


def count_catalog(connection: Connection) -> CatalogFigures:
    """Count the items; reads the whole table."""
    return CatalogFigures(**connection.execute(_CATALOG).one()._mapping)


def catalog_mark(connection: Connection) -> CatalogMark:
    """What is equal as long as no import has begun or ended."""
    row = connection.execute(_CATALOG_MARK).one_or_none()
    return None if row is None else (row.run_id, row.outcome)


def _jobs(connection: Connection, jobs: Iterable[str]) -> dict[str, JobFigures]:
    by_job: dict[str, dict[str, Any]] = {job: {} for job in jobs}
    for row in connection.execute(_RUNS):
        by_job.setdefault(row.job, {})[row.outcome] = row
    last: dict[str, Any] = {}
    running = set()
    for row in connection.execute(_LAST, {"run_class": RUN_CLASS, "silent": SILENT_SECONDS}):
        if row.outcome == "running":
            running.add(row.job)
        else:
            last[row.job] = row
    return {job: _job(by_job[job], last.get(job), running=job in running) for job in sorted(by_job)}


def _job(by_outcome: Mapping[str, Any], last: Any, *, running: bool) -> JobFigures:
    ended = [by_outcome[name].ended for name in ("done", "skipped") if name in by_outcome]
    return JobFigures(
        runs={name: row.runs for name, row in by_outcome.items() if name != "running"},
        running=running,
        last_start=_latest(row.started for row in by_outcome.values()),
        last_completion=None if last is None else last.ended.timestamp(),
        last_success=_latest(ended),
        last_outcome=None if last is None else last.outcome,
        duration_seconds=None if last is None else last.seconds,
    )


def _latest(times: Iterable[datetime | None]) -> float | None:
    return max((time.timestamp() for time in times if time is not None), default=None)


def _gate(connection: Connection) -> GateFigures:
    rows = connection.execute(_GATE).all()  # the decision that was made last comes first
    return GateFigures(
        decisions={row.decision: row.decisions for row in rows},
        last=rows[0].decision if rows else None,
        last_decided=rows[0].decided if rows else None,
    )
