"""What the database tells somebody on call: runs, models, sizes, locks. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from recjob.monitoring.snapshot import CatalogFigures
from recjob.store.ledger import KIND_CLASS, RESOURCE_CLASS, RUN_CLASS, Resource
from recjob.store.metrics import count_catalog
from recjob.store.schedule_runs import SCHEDULER_CLASS
from recjob.store.schema import LOCK_CLASS

EXACT_ROWS: Final = 2_000_000
"""A table that the planner thinks larger is not counted: that would take more than a second."""


@dataclass(frozen=True)
class PublishedRow:
    """The run that readers see."""

    run_id: int
    started: datetime
    written: datetime
    """When its lists were there."""
    statistics: dict[str, Any]


@dataclass(frozen=True)
class JobRow:
    """A run of the ledger, in short."""

    run_id: int
    job: str
    outcome: str
    started: datetime
    ended: datetime | None
    heartbeat: datetime
    host: str
    pid: int
    stage: str | None
    """Of a running one: the stage that it is in."""
    error: str | None
    alive: bool
    """Whether it holds the lock of its run."""


@dataclass(frozen=True)
class DecisionSummary:
    """The last word of the gate."""

    model_id: str
    decision: str
    decided: datetime
    against: str | None
    reason: str | None


@dataclass(frozen=True)
class CatalogSizes:
    """How much there is; `estimated`: some of it is the planner's estimate."""

    items: CatalogFigures
    outfits: int
    users: int
    interactions: int
    estimated: bool


@dataclass(frozen=True)
class HeldLock:
    """An advisory lock of ours that somebody holds."""

    what: str
    shared: bool
    pid: int
    """Of the server's process."""
    user: str | None
    client: str | None
    since: datetime | None
    """When its connection began; None where we may not know."""
    run_id: int | None
    """Of the run that holds it; None: no run does."""
    job: str | None


def database_clock(connection: Connection) -> datetime:
    """What time it is there."""
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment


def database_bytes(connection: Connection) -> int:
    """Size on the disk."""
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def may_select(connection: Connection, table: str) -> bool:
    """Whether we may read a table."""
    return bool(
        connection.scalar(
            text("SELECT has_table_privilege(current_user, :table, 'SELECT')"), {"table": table}
        )
    )


def published_row(connection: Connection) -> PublishedRow | None:
    """The run that readers see; None: no run is published."""
    row = connection.execute(
        text(
            "SELECT run_id, started, written, statistics FROM recommendation_run "
            "JOIN job_run USING (run_id) WHERE run_id = (SELECT current_run FROM publication)"
        )
    ).one_or_none()
    return None if row is None else PublishedRow(**row._mapping)


def newest_held(connection: Connection) -> tuple[int, str] | None:
    """Number and reason of the newest kept run where a limit holds it back."""
    row = connection.execute(
        text("SELECT run_id, held FROM recommendation_run ORDER BY run_id DESC LIMIT 1")
    ).one_or_none()
    return None if row is None or row.held is None else (row.run_id, row.held)


def last_ended(connection: Connection) -> list[JobRow]:
    """The last run of each job that has ended, the last one first."""
    return _runs(
        connection,
        "run_id IN (SELECT max(run_id) FROM job_run WHERE outcome <> 'running' GROUP BY job)",
    )


def running_now(connection: Connection) -> list[JobRow]:
    """Runs that have not ended, the newest first; those that are not alive were killed."""
    return _runs(connection, "outcome = 'running'")


def _runs(connection: Connection, condition: str) -> list[JobRow]:
    rows = connection.execute(
        text(
            "SELECT run_id, job, outcome, started, ended, heartbeat, host, pid, stage, error, "  # noqa: S608
            f"EXISTS (SELECT FROM pg_locks WHERE {_OURS} AND classid = :runs "
            f"AND objid = run_id::oid) AS alive FROM job_run WHERE {condition} "
            "ORDER BY coalesce(ended, started) DESC, run_id DESC"
        ),
        {"runs": RUN_CLASS},
    )
    return [JobRow(**row._mapping) for row in rows]


def last_decision(connection: Connection) -> DecisionSummary | None:
    """What the gate decided last; None: nothing yet."""
    row = connection.execute(
        text(
            "SELECT model.model_id, decision, decided, other.model_id AS against, reason "
            "FROM gate_decision JOIN model USING (model_key) "
            "LEFT JOIN model AS other ON other.model_key = against "
            "ORDER BY decision_id DESC LIMIT 1"
        )
    ).one_or_none()
    return None if row is None else DecisionSummary(**row._mapping)


def catalog_sizes(connection: Connection) -> CatalogSizes:
    """Rows of the catalog."""
    counts: dict[str, int] = {}
    estimated = False
    for table in ("outfit", "app_user", "interaction"):
        rows = connection.execute(
            text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:table)"),
            {"table": table},
        ).scalar_one()
        if rows > EXACT_ROWS:
            estimated = True
        else:
            rows = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
        counts[table] = int(rows)
    return CatalogSizes(
        items=count_catalog(connection),
        outfits=counts["outfit"],
        users=counts["app_user"],
        interactions=counts["interaction"],
        estimated=estimated,
    )


def held_locks(connection: Connection) -> list[HeldLock]:
    """All locks of ours, each with who holds it."""
    rows = connection.execute(
        text(
            f"""
            WITH held AS (
                SELECT classid::bigint AS class, objid::bigint AS number, pid,
                    mode = 'ShareLock' AS shared
                FROM pg_locks WHERE {_OURS} AND granted AND classid = ANY (:classes)
            )
            SELECT held.class, held.number, held.shared, held.pid, usename AS user,
                coalesce(client_hostname, host(client_addr)) AS client, backend_start AS since,
                run.run_id, run.job
            FROM held
            LEFT JOIN pg_stat_activity AS session ON session.pid = held.pid
            LEFT JOIN held AS own ON own.pid = held.pid AND own.class = :runs
            LEFT JOIN job_run AS run ON run.run_id = own.number
            ORDER BY held.class, held.number, held.pid
            """  # noqa: S608
        ),
        {"classes": list(_CLASSES), "runs": RUN_CLASS},
    )
    return [
        HeldLock(
            what=_what(row._mapping["class"], row.number),
            shared=row.shared,
            pid=row.pid,
            user=row.user,
            client=row.client,
            since=row.since,
            run_id=row.run_id,
            job=row.job,
        )
        for row in rows
    ]


def scheduler_lock(connection: Connection) -> HeldLock | None:
    """The lock of the scheduler that leads; None: none does."""
    return next((lock for lock in held_locks(connection) if lock.what == SCHEDULER), None)


SCHEDULER: Final = "the schedule"
_OURS: Final = (
    "locktype = 'advisory' AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_CLASSES: Final = {
    RUN_CLASS: "its run",
    KIND_CLASS: "its kind of job",
    SCHEDULER_CLASS: SCHEDULER,
    LOCK_CLASS: "the migrations",
    RESOURCE_CLASS: "",
}


def _what(group: int, number: int) -> str:
    if group == RESOURCE_CLASS and number in set(Resource):
        return Resource(number).name.lower()
    return _CLASSES[group] or f"resource {number}"
