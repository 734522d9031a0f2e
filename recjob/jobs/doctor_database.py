"""`doctor` on the database: server, schema, roles, clock, runs, locks, scheduler."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from recjob.jobs.diagnosis import Finding, failure, warning, well
from recjob.settings import Settings
from recjob.store.database import WRITER, Database
from recjob.store.health import ROLES, ServerState, server_state
from recjob.store.overview import (
    SCHEDULER,
    HeldLock,
    database_clock,
    held_locks,
    running_now,
    scheduler_lock,
)
from recjob.store.schedule_runs import last_schedule_rows
from recjob.store.schema import SchemaState, code_version, schema_state, schema_version

OLDEST_PGVECTOR: Final = (0, 7)
"""The first with halfvec."""
UPGRADE: Final = "run `python cli.py db upgrade` as an administrator"


@dataclass(frozen=True)
class Session:
    """An open database and what it says of itself."""

    settings: Settings
    database: Database
    connection: Connection
    state: ServerState

    @classmethod
    def begin(cls, settings: Settings, database: Database, connection: Connection) -> Session:
        """Ask the server. Errors as of a connection."""
        return cls(settings, database, connection, server_state(connection))


def server(session: Session) -> Finding:
    """That it answers, and what it is."""
    kind = "embedded server" if session.database.embedded else session.database.name
    return well(f"{kind}, Postgres {session.state.version}")


def schema(session: Session) -> Finding:
    """Whether the migrations are this code's."""
    state = schema_state(session.connection)
    found = schema_version(session.connection)
    if state is SchemaState.CURRENT:
        return well(f"version {found}")
    if state is SchemaState.UNKNOWN:
        return failure(
            f"version {found} is newer than this code ({code_version()})",
            "use the code that migrated it, or a newer one",
        )
    return failure(f"version {found or 'none'}, this code has {code_version()}", UPGRADE)


def pgvector(session: Session) -> Finding:
    """The extension for vectors."""
    version = session.state.pgvector
    if version is None:
        return failure(
            "the extension is not in this database",
            f"install pgvector on the server, then {UPGRADE}; if somebody dropped the extension, "
            "its columns went with it: restore a backup",
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_PGVECTOR:
        return failure(f"{version} has no halfvec", "install pgvector 0.7 or newer")
    return well(version)


def roles(session: Session) -> Finding:
    """Whether our roles are there, and jobs work as the one that may only write rows."""
    state = session.state
    missing = [role for role in ROLES if role not in state.roles]
    if missing:
        return failure(f"missing: {', '.join(missing)}", UPGRADE)
    if state.works_as != WRITER:
        return failure(
            f"user {state.user} may not become {WRITER}, so no job can write",
            f"GRANT {WRITER} TO {state.user}",
        )
    if state.superuser and not session.database.embedded:
        return warning(
            f"user {state.user} is an administrator; jobs work as {WRITER}",
            f"give jobs a user of their own with the role {WRITER}",
        )
    return well(f"user {state.user} works as {WRITER}")


def tls(session: Session) -> Finding:
    """Whether anybody on the way can read along."""
    if session.state.tls is not None:
        return well(session.state.tls)
    if session.state.local:
        return well("not needed: a socket of this machine")
    return warning(
        "the connection is not encrypted",
        "add ?sslmode=verify-full&sslrootcert=FILE to RECJOB_DATABASE_URL",
    )


def clock(session: Session) -> Finding:
    """This machine's clock against the database's."""
    before = datetime.now(UTC)
    there = database_clock(session.connection)
    after = datetime.now(UTC)
    late = max((before - there).total_seconds(), (there - after).total_seconds(), 0.0)
    limit = session.settings.status.max_clock_seconds
    if late > limit:
        return failure(
            f"{late:.0f} s between this machine and the database",
            "set both clocks by NTP (status.max_clock_seconds is the limit)",
        )
    return well(f"{late:.1f} s between this machine and the database")


def orphaned_runs(session: Session) -> Finding:
    """Runs that say they run and were killed."""
    dead = [row for row in running_now(session.connection) if not row.alive]
    if dead:
        names = ", ".join(
            f"{row.job} (run {row.run_id}, pid {row.pid} on {row.host})" for row in dead
        )
        return warning(
            f"killed, and not yet marked so: {names}",
            "start any job: it marks them; then run them again",
        )
    return well("none")


def locks(session: Session) -> Finding:
    """Who holds our locks."""
    held = [lock for lock in held_locks(session.connection) if lock.what != SCHEDULER]
    jobs: dict[tuple[str, int], list[str]] = {}
    strangers: list[HeldLock] = []
    for lock in held:
        if lock.run_id is None:
            strangers.append(lock)
        elif lock.what not in ("its run", "its kind of job"):
            mode = "reads" if lock.shared else "writes"
            jobs.setdefault((lock.job or "", lock.run_id), []).append(f"{mode} {lock.what}")
        else:
            jobs.setdefault((lock.job or "", lock.run_id), [])
    found = "; ".join(
        f"{job} (run {run}) {', '.join(what) or 'runs'}" for (job, run), what in jobs.items()
    )
    if strangers:
        who = ", ".join(
            f"{lock.what} by server process {lock.pid} ({lock.user or '?'}, "
            f"{lock.client or 'this machine'})"
            for lock in strangers
        )
        return warning(
            f"held by sessions without a run: {who}" + (f"; {found}" if found else ""),
            "a job that is just starting or ending is harmless; else end the session "
            "(pg_terminate_backend)",
        )
    return well(found or "none is held")


def scheduler(session: Session) -> Finding:
    """Whether a scheduler is alive where there has been one."""
    leader = scheduler_lock(session.connection)
    if leader is not None:
        return well(f"alive: {leader.user or 'a session'} at {leader.client or 'this machine'}")
    rows = last_schedule_rows(session.connection)
    if not rows:
        return well("there has been none; cron or people start the jobs")
    last = max(row.slot for row in rows.values()).astimezone(UTC)
    return warning(
        f"none is alive; the last run of one was that of {last:%Y-%m-%d %H:%M} UTC",
        "start `python cli.py schedule`, where cron does not do its work",
    )
