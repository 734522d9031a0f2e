"""What the scheduler did: one row per entry and time at which it was due, and who leads.

The rows say which times are dealt with, so a scheduler that starts knows what was missed. A row
that says 'running' belongs to the host and pid in it until another leader takes it over.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from sqlalchemy import Connection, text

from recjob.errors import TemporaryError
from recjob.store.database import Database, translated
from recjob.store.ledger import RUN_CLASS, Outcome

SCHEDULER_CLASS: Final = 7305
"""First number of the leader's advisory lock, beside those in `ledger`."""
_LOCK: Final = (SCHEDULER_CLASS, 0)
_KEEPALIVES: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""In seconds, and how many. A machine that lost its power says no goodbye: without these the server
would keep its lock for the two hours that systems usually wait."""

Ended = Literal["done", "failed", "killed", "refused", "skipped"]


@dataclass(frozen=True)
class ScheduleRow:
    """How an entry's run at one of its times stands."""

    entry: str
    slot: datetime
    started: datetime
    ended: datetime | None
    outcome: Outcome
    attempts: int
    """Commands that were started for it."""
    reason: str | None
    host: str
    pid: int
    log: str | None
    """Of its last command."""
    cron: str


@dataclass(frozen=True)
class FinishedRun:
    """A run of a job that has ended with a result."""

    run_id: int
    started: datetime
    outcome: Literal["done", "refused", "skipped"]
    error: str | None


class Leadership:
    """The connection of a scheduler that leads or would like to."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._connection = connection
        self._name = name

    def acquire(self) -> bool:
        """Try to become the leader. Raises TemporaryError where the connection is lost."""
        row = self._ask("SELECT pg_try_advisory_lock(%s, %s)", _LOCK)
        return bool(row[0])

    def now(self) -> datetime:
        """The database's clock, which all schedulers and the ledger share.

        Raises TemporaryError where the connection, and so the lead, is lost.
        """
        moment: datetime = self._ask("SELECT clock_timestamp()", ())[0]
        return moment

    def _ask(self, query: str, values: tuple[int, ...]) -> tuple[Any, ...]:
        with translated(self._name):
            row = self._connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return tuple(row)


@contextmanager
def candidacy(database: Database) -> Iterator[Leadership]:
    """A connection of its own to lead on; the lead, if it was won, ends with the block."""
    connection = database.connect_alone()
    try:
        with translated(database.name):
            for option, value in _KEEPALIVES.items():
                connection.execute("SELECT set_config(%s, %s, false)", (option, value))
        yield Leadership(connection, database.name)
    finally:
        connection.close()


def leader_exists(connection: Connection) -> bool:
    """Whether some scheduler leads."""
    return bool(
        connection.scalar(
            text(
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND classid = :class AND objid = :number)"
            ),
            {"class": _LOCK[0], "number": _LOCK[1]},
        )
    )


def last_schedule_rows(connection: Connection) -> dict[str, ScheduleRow]:
    """The row of the latest time of each entry that has any."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (entry) entry, slot, started, ended, outcome, attempts, reason, "
            "host, pid, log, cron FROM schedule_run ORDER BY entry, slot DESC"
        )
    )
    return {row.entry: ScheduleRow(**row._mapping) for row in rows}


def finished_since(
    connection: Connection,
    job: str,
    since: datetime,
    parameters: Mapping[str, str | bool] | None = None,
) -> FinishedRun | None:
    """The newest run of a job that started at or after `since` and has a result; None: there is
    none. With `parameters` only runs that have them count."""
    row = connection.execute(
        text(
            "SELECT run_id, started, outcome, error FROM job_run WHERE job = :job "
            "AND started >= :since AND outcome IN ('done', 'refused', 'skipped') "
            "AND parameters @> cast(:parameters AS jsonb) "
            "ORDER BY run_id DESC LIMIT 1"
        ),
        {"job": job, "since": since, "parameters": json.dumps(dict(parameters or {}))},
    ).one_or_none()
    return None if row is None else FinishedRun(**row._mapping)


def counts_from(
    connection: Connection, entry: str, slot: datetime, before: Sequence[str]
) -> datetime:
    """Since when a run of the entry's job serves for this time, whoever started it.

    Not before its time, nor before the end of what it came after: a run that began while the
    import was at work has not seen all of it.
    """
    moment: datetime = connection.execute(
        text(
            "SELECT greatest(own.slot, max(first.ended)) FROM schedule_run own "
            "LEFT JOIN schedule_run first ON first.entry = ANY(:before) "
            "AND first.outcome = 'done' AND first.ended <= own.started "
            "WHERE own.entry = :entry AND own.slot = :slot GROUP BY own.slot"
        ),
        {"entry": entry, "slot": slot, "before": list(before)},
    ).scalar_one()
    return moment


def runs_now(connection: Connection, job: str) -> str | None:
    """Who runs a job at this moment, for a message; None: nobody, or only the dead."""
    row = connection.execute(
        text(
            "SELECT pid, host, run_id FROM job_run WHERE job = :job AND outcome = 'running' "
            "AND EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid = :class AND objid = run_id::oid) LIMIT 1"
        ),
        {"job": job, "class": RUN_CLASS},
    ).one_or_none()
    return None if row is None else f"pid {row.pid} on {row.host}, run {row.run_id}"


def newest_done_import_and_night(connection: Connection) -> tuple[int | None, int | None]:
    """The newest import that ended well, and the newest night that has ended at all."""
    row = connection.execute(
        text(
            "SELECT max(run_id) FILTER (WHERE job = 'import' AND outcome = 'done') AS import, "
            "max(run_id) FILTER (WHERE job = 'nightly-recommend' AND outcome <> 'running') "
            "AS night FROM job_run"
        )
    ).one()
    return row._mapping["import"], row.night


def begin_schedule_run(
    connection: Connection, entry: str, slot: datetime, cron: str, reason: str | None
) -> int:
    """Write that this process runs the entry; a run that was cut short becomes its own.

    Returns the attempts that were made before.
    """
    row = connection.execute(
        text(
            "INSERT INTO schedule_run (entry, slot, cron, reason, host, pid) "
            "VALUES (:entry, :slot, :cron, :reason, :host, :pid) "
            "ON CONFLICT (entry, slot) DO UPDATE SET outcome = 'running', ended = NULL, "
            "reason = excluded.reason, host = excluded.host, pid = excluded.pid "
            "RETURNING attempts"
        ),
        _owner() | {"entry": entry, "slot": slot, "cron": cron, "reason": reason},
    ).one()
    return int(row.attempts)


def note_attempt(connection: Connection, entry: str, slot: datetime, log: Path) -> None:
    """One more command is started. Raises TemporaryError where the run is no longer ours."""
    _update_own(connection, entry, slot, "attempts = attempts + 1, log = :log", {"log": str(log)})


def end_schedule_run(
    connection: Connection, entry: str, slot: datetime, outcome: Ended, reason: str | None
) -> None:
    """Write how it ended; no `reason` leaves the one it began with. Errors as `note_attempt`."""
    _update_own(
        connection,
        entry,
        slot,
        "outcome = :outcome, ended = now(), reason = coalesce(:reason, reason)",
        {"outcome": outcome, "reason": reason},
    )


def record_without_run(
    connection: Connection,
    entry: str,
    slot: datetime,
    cron: str,
    outcome: Literal["skipped", "killed"],
    reason: str,
) -> None:
    """Deal with a time without a run; a run of that time that was cut short ends with it."""
    connection.execute(
        text(
            "INSERT INTO schedule_run (entry, slot, cron, ended, outcome, reason, host, pid) "
            "VALUES (:entry, :slot, :cron, now(), :outcome, :reason, :host, :pid) "
            "ON CONFLICT (entry, slot) DO UPDATE SET ended = now(), outcome = excluded.outcome, "
            "reason = excluded.reason"
        ),
        _owner()
        | {"entry": entry, "slot": slot, "cron": cron, "outcome": outcome, "reason": reason},
    )


def close_cut_short(connection: Connection, entry: str, before: datetime) -> None:
    """Mark as killed what still says 'running' of an entry at times before `before`."""
    connection.execute(
        text(
            "UPDATE schedule_run SET outcome = 'killed', ended = now(), "
            "reason = 'the scheduler died, and a later time came before another took over' "
            "WHERE entry = :entry AND slot < :before AND outcome = 'running'"
        ),
        {"entry": entry, "before": before},
    )


def _update_own(
    connection: Connection,
    entry: str,
    slot: datetime,
    assignments: str,
    values: dict[str, Any],
) -> None:
    done = connection.execute(
        text(
            f"UPDATE schedule_run SET {assignments} WHERE entry = :entry AND slot = :slot "  # noqa: S608
            "AND outcome = 'running' AND host = :host AND pid = :pid"
        ),
        _owner() | {"entry": entry, "slot": slot} | values,
    )
    if done.rowcount != 1:
        raise TemporaryError(f"another scheduler has taken over {entry} of {slot:%F %T}")


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}
