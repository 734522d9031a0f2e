"""The job ledger and the lease of a run.

A run holds session-level advisory locks on a connection of its own: one for its kind of job, one
per resource that it reads (shared) or writes (exclusive), and one for itself. The locks end with
the connection, so a killed job never blocks the next; a run whose own lock is free and whose row
still says 'running' is dead, and marked so at the next start of any job.

A lost connection loses the locks silently. The heartbeat notices, and takes them again where no
other job came in between. Where one did, that job has marked this run as killed: `hold_lease`, in
the transaction that publishes, refuses then. So `run_id`, which grows, is the fencing number.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal

import psycopg
from sqlalchemy import Connection, text

from recjob.errors import LockedError, NotFoundError, TemporaryError
from recjob.store.database import Database, translated

Outcome = Literal["running", "done", "failed", "killed", "refused", "skipped"]

# First numbers of our advisory locks: any constants of our own, beside schema.LOCK_CLASS.
RESOURCE_CLASS = 7301
RUN_CLASS = 7302
KIND_CLASS = 7304


class Resource(IntEnum):
    """What jobs read and write."""

    CATALOG = 1
    ENGINES = 2
    EMBEDDINGS = 3
    PUBLICATION = 4
    PEOPLE = 5
    """What is known of users, wherever it lies: read by all who hold it, written by `forget`."""


@dataclass(frozen=True)
class Locks:
    """What a kind of job writes and reads."""

    writes: frozenset[Resource] = frozenset()
    reads: frozenset[Resource] = frozenset()


@dataclass(frozen=True)
class RunRow:
    """A row of the ledger."""

    run_id: int
    job: str
    parameters: dict[str, Any]
    host: str
    pid: int
    started: datetime
    heartbeat: datetime
    ended: datetime | None
    outcome: Outcome
    counts: dict[str, Any]
    stages: list[dict[str, Any]]
    metrics: dict[str, Any]
    """As `monitoring.run_metrics.RunMetrics.as_json` has it."""
    error: str | None
    """Why it failed, was refused or skipped."""


@dataclass(frozen=True)
class _Lock:
    group: int
    number: int
    shared: bool
    what: str

    def is_on(self, resource: Resource) -> bool:
        return self.group == RESOURCE_CLASS and self.number == resource


class Lease:
    """The locks and the ledger row of one run; safe to use from several threads."""

    def __init__(
        self, database: Database, job: str, locks: Locks, parameters: Mapping[str, Any]
    ) -> None:
        """Take the locks and write the row.

        Raises LockedError, which says who holds a lock, since when.
        """
        self._database = database
        self._job = job
        self._guard = threading.Lock()
        self._lost: str | None = None
        self._wanted = _wanted(job, locks)
        self._connection: psycopg.Connection[Any] | None = database.connect_alone()
        try:
            _take(self._connection, self._wanted, job)
            mark_killed(self._connection)
            self.run_id = self._write_row(self._connection, parameters)
        except BaseException:
            self._drop_connection()
            raise

    def check(self) -> None:
        """Raise TemporaryError where the lease is known to be lost. Asks nobody."""
        if self._lost is not None:
            raise TemporaryError(self._lost)

    def beat(
        self,
        stages: Sequence[Mapping[str, Any]],
        metrics: Mapping[str, Any],
        stage: str | None = None,
    ) -> None:
        """Say that the run lives and how far it is; take the locks again after a lost connection.

        `stages` are those that have ended, `stage` is the one that it is in.

        Raises TemporaryError while the database is away (the next beat may find it again) and
        when the lease is lost (`check` tells them apart).
        """
        with self._guard:
            self.check()
            self._mark(
                "heartbeat = now(), stages = cast(%(stages)s AS jsonb), "
                "metrics = cast(%(metrics)s AS jsonb), stage = %(stage)s",
                {
                    "stages": json.dumps(list(stages)),
                    "metrics": json.dumps(dict(metrics)),
                    "stage": stage,
                },
            )

    def give_back(self, resource: Resource) -> None:
        """Let go of a resource that the run needs no more, for the rest of the run."""
        with self._guard:
            self.check()
            given = [lock for lock in self._wanted if lock.is_on(resource)]
            self._wanted = [lock for lock in self._wanted if not lock.is_on(resource)]
            if self._connection is None:
                return
            try:
                for lock in given:
                    function = "pg_advisory_unlock_shared" if lock.shared else "pg_advisory_unlock"
                    self._connection.execute(
                        f"SELECT {function}(%s, %s)".encode(), (lock.group, lock.number)
                    )
            except psycopg.OperationalError:
                self._drop_connection()  # the locks went with it; the next beat takes the others

    def freeze(self, parameters: Mapping[str, Any]) -> None:
        """Add to the row what the run works on."""
        with self._guard, self._database.begin() as connection:
            self.check()
            hold_lease(connection, self.run_id)
            connection.execute(
                text(
                    "UPDATE job_run SET parameters = parameters || cast(:parameters AS jsonb) "
                    "WHERE run_id = :run_id"
                ),
                {"parameters": json.dumps(dict(parameters)), "run_id": self.run_id},
            )

    def end(
        self,
        outcome: Literal["done", "failed", "refused", "skipped"],
        counts: Mapping[str, Any],
        stages: Sequence[Mapping[str, Any]],
        metrics: Mapping[str, Any],
        error: str | None,
    ) -> None:
        """Write how it ended and let the locks go. Errors as `beat`."""
        with self._guard:
            try:
                if self._lost is None:
                    self._mark(
                        "outcome = %(outcome)s, ended = now(), heartbeat = now(), "
                        "counts = cast(%(counts)s AS jsonb), "
                        "stages = cast(%(stages)s AS jsonb), "
                        "metrics = cast(%(metrics)s AS jsonb), error = %(error)s",
                        {
                            "outcome": outcome,
                            "counts": json.dumps(dict(counts)),
                            "stages": json.dumps(list(stages)),
                            "metrics": json.dumps(dict(metrics)),
                            "error": error,
                        },
                    )
            finally:
                self._drop_connection()

    def _write_row(self, connection: psycopg.Connection[Any], parameters: Mapping[str, Any]) -> int:
        # The lock on the run is taken before its row can be seen, so that it never looks dead.
        with connection.transaction():
            row = connection.execute(
                "INSERT INTO job_run (job, parameters, host, pid) "
                "VALUES (%s, cast(%s AS jsonb), %s, %s) RETURNING run_id",
                (self._job, json.dumps(dict(parameters)), socket.gethostname(), os.getpid()),
            ).fetchone()
            assert row is not None
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (RUN_CLASS, row[0]))
        return int(row[0])

    def _mark(self, assignments: str, values: dict[str, Any]) -> None:
        """Update the row, on a new connection where the old one is broken."""
        statement = (
            f"UPDATE job_run SET {assignments} "  # noqa: S608
            "WHERE run_id = %(run_id)s AND outcome = 'running'"
        ).encode()
        values = values | {"run_id": self.run_id}
        try:
            self._connection = self._connection or self._reconnect()
            done = self._connection.execute(statement, values)
        except psycopg.OperationalError:
            self._drop_connection()
            self._connection = self._reconnect()
            with translated(self._database.name):
                done = self._connection.execute(statement, values)
        if done.rowcount != 1:
            self._lost = _lost_message(self.run_id)
            self.check()

    def _reconnect(self) -> psycopg.Connection[Any]:
        connection = self._database.connect_alone()
        try:
            own = _Lock(RUN_CLASS, self.run_id, False, "this run")
            _take(connection, [*self._wanted, own], self._job)
        except LockedError as error:
            _close(connection)
            self._lost = f"{_lost_message(self.run_id)} ({error})"
            raise TemporaryError(self._lost) from None
        except BaseException:
            _close(connection)
            raise
        return connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            _close(self._connection)
        self._connection = None


def _close(connection: psycopg.Connection[Any]) -> None:
    """Close a connection and let its locks go first.

    The server takes them from a closed connection too, but only a moment later, in which the next
    job would find them held.
    """
    with contextlib.suppress(psycopg.Error):
        connection.execute("SELECT pg_advisory_unlock_all()")
    connection.close()


def hold_lease(connection: Connection, run_id: int) -> None:
    """Make sure that the run still has its lease, and keeps it until this transaction ends.

    Raises TemporaryError where another job has taken over.
    """
    row = connection.execute(
        text("SELECT 1 FROM job_run WHERE run_id = :run_id AND outcome = 'running' FOR SHARE"),
        {"run_id": run_id},
    ).one_or_none()
    if row is None:
        raise TemporaryError(_lost_message(run_id))


def mark_killed(connection: psycopg.Connection[Any]) -> list[int]:
    """Mark the runs that died without a word; their numbers."""
    rows = connection.execute(
        """
        UPDATE job_run SET outcome = 'killed', ended = heartbeat,
            error = coalesce(error, 'it was killed, or lost the database')
        WHERE outcome = 'running' AND NOT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = %s AND objid = job_run.run_id::oid
        )
        RETURNING run_id
        """,
        (RUN_CLASS,),
    )
    return sorted(row[0] for row in rows)


def list_job_runs(connection: Connection, limit: int) -> list[RunRow]:
    """The last `limit` runs of all jobs, the newest first."""
    rows = connection.execute(
        text(f"{_SELECT} ORDER BY run_id DESC LIMIT :limit"), {"limit": limit}
    )
    return [RunRow(**row._mapping) for row in rows]


def last_done(connection: Connection, job: str) -> RunRow | None:
    """The newest run of a job that ended well; None where there is none."""
    row = connection.execute(
        text(f"{_SELECT} WHERE job = :job AND outcome = 'done' ORDER BY run_id DESC LIMIT 1"),
        {"job": job},
    ).one_or_none()
    return None if row is None else RunRow(**row._mapping)


def newest_planned_run(connection: Connection, job: str, before: int) -> RunRow | None:
    """The newest run of a job before the run `before` that had frozen its plan; None: none had."""
    row = connection.execute(
        text(
            f"{_SELECT} WHERE job = :job AND run_id < :before AND parameters ? 'fingerprint' "
            "ORDER BY run_id DESC LIMIT 1"
        ),
        {"job": job, "before": before},
    ).one_or_none()
    return None if row is None else RunRow(**row._mapping)


def import_folders(connection: Connection, limit: int) -> list[str]:
    """The folders of the imports that ended well, the newest first, each once."""
    rows = connection.scalars(
        text(
            "SELECT parameters ->> 'folder' FROM job_run WHERE job = 'import' "
            "AND outcome = 'done' AND parameters ? 'folder' "
            "GROUP BY 1 ORDER BY max(run_id) DESC LIMIT :limit"
        ),
        {"limit": limit},
    )
    return [str(folder) for folder in rows]


def job_run(connection: Connection, run_id: int) -> RunRow:
    """A run by its number; NotFoundError where there is none."""
    row = connection.execute(
        text(f"{_SELECT} WHERE run_id = :run_id"), {"run_id": run_id}
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no run {run_id}; `python cli.py runs list` shows them")
    return RunRow(**row._mapping)


_SELECT = (
    "SELECT run_id, job, parameters, host, pid, started, heartbeat, ended, outcome, counts, "
    "stages, metrics, error FROM job_run"
)


def _wanted(job: str, locks: Locks) -> list[_Lock]:
    """The locks of a job, in one order for all jobs."""
    kind = zlib.crc32(job.encode()) & 0x7FFFFFFF  # Postgres takes signed numbers of 32 bits
    resources = [
        _Lock(RESOURCE_CLASS, resource, resource not in locks.writes, resource.name.lower())
        for resource in sorted(locks.writes | locks.reads)
    ]
    return [*resources, _Lock(KIND_CLASS, kind, False, "its kind of job")]


def _take(connection: psycopg.Connection[Any], locks: list[_Lock], job: str) -> None:
    for lock in locks:
        function = "pg_try_advisory_lock_shared" if lock.shared else "pg_try_advisory_lock"
        row = connection.execute(
            f"SELECT {function}(%s, %s)".encode(), (lock.group, lock.number)
        ).fetchone()
        if row is None or not row[0]:
            raise LockedError(f"{job} cannot start: {_holder(connection, lock)}; wait for its end")


def _holder(connection: psycopg.Connection[Any], lock: _Lock) -> str:
    holder = connection.execute(
        """
        SELECT job, job_run.pid, host, run_id,
            to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
        FROM pg_locks AS held
        JOIN pg_locks AS own ON own.pid = held.pid AND own.locktype = 'advisory'
            AND own.database = held.database AND own.classid = %(runs)s AND own.objsubid = 2
        JOIN job_run ON job_run.run_id::oid = own.objid
        WHERE held.locktype = 'advisory' AND held.objsubid = 2 AND held.granted
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND held.classid = %(group)s AND held.objid = %(number)s::bigint::oid
        AND held.pid <> pg_backend_pid()
        ORDER BY run_id LIMIT 1
        """,
        {"runs": RUN_CLASS, "group": lock.group, "number": int(lock.number)},
    ).fetchone()
    verb = "is using" if lock.shared else "holds"
    if holder is None:
        return f"another job, which is just starting or ending, {verb} {lock.what}"
    job, pid, host, run_id, since = holder
    return f"{job} (pid {pid} on {host}, run {run_id}) {verb} {lock.what} since {since} UTC"


def _lost_message(run_id: int) -> str:
    return (
        f"run {run_id} has lost its lease: its connection to the database broke and another job "
        "started meanwhile; run it again"
    )
