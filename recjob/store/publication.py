"""Publishing a run: load it beside the others, check it, attach it, show it by changing one row.

Three transactions. The first makes and fills the partition and checks it; a failure leaves
nothing. The second attaches it, which readers do not notice. The third changes the row that says
which run readers see, and only if this run still holds its lease. What a kill leaves between them
is swept at the next start of a job.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from recjob.errors import NotFoundError
from recjob.store.catalog_store import CatalogKeys
from recjob.store.database import Database
from recjob.store.ledger import hold_lease
from recjob.store.run_lists import (
    KINDS,
    RunLists,
    call_partition_function,
    check_lists,
    check_partition,
    load_lists,
)

READERS_SECONDS = 10.0
"""Longest wait for statements that were planned before the new partition was there."""
DROP_LOCK_TIMEOUT = "100ms"
"""Dropping a partition shuts readers out while it waits for those before it: never for long."""
DROP_ATTEMPTS = 20
POLL_SECONDS = 0.05

_PUBLICATION = text("SELECT current_run, previous_runs FROM publication")
_PUBLICATION_LOCKED = text("SELECT current_run, previous_runs FROM publication FOR UPDATE")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedRun:
    """A run whose recommendations are kept."""

    run_id: int
    current: bool
    """Whether readers see it."""
    started: datetime
    users: dict[str, int]
    """Number of lists of each kind."""
    recommendations: int


def publish(
    database: Database,
    run_id: int,
    keys: CatalogKeys,
    lists: RunLists,
    *,
    exclude_seen: bool,
    keep_runs: int,
) -> PublishedRun:
    """Load, check and show the lists of `run_id`, then drop runs beyond `keep_runs`.

    Raises RefusedError where a check fails, TemporaryError where the lease is lost. Readers see
    the run before, and nothing is left of this one, unless it returns.
    """
    check_lists(lists)
    with database.begin() as connection:
        hold_lease(connection, run_id)
        load_lists(connection, run_id, keys, lists)
        check_partition(connection, run_id, lists, exclude_seen)
    try:
        with database.begin() as connection:
            hold_lease(connection, run_id)
            call_partition_function(connection, "attach", run_id)
        _wait_for_readers(database)
        with database.begin() as connection:
            hold_lease(connection, run_id)
            _show(connection, run_id)
    except BaseException:
        _drop(database, run_id)
        raise
    drop_old_runs(database, keep_runs)
    with database.connect() as connection:
        return show_run(connection, run_id)


def list_runs(connection: Connection) -> list[PublishedRun]:
    """The runs whose recommendations are kept, the newest first."""
    current, previous = publication_row(connection)
    runs = sorted({*previous, *([] if current is None else [current])}, reverse=True)
    return [show_run(connection, run_id) for run_id in runs]


def show_run(connection: Connection, run_id: int) -> PublishedRun:
    """A run whose recommendations are kept; NotFoundError where they are not."""
    current, previous = publication_row(connection)
    started = connection.scalar(
        text("SELECT started FROM job_run WHERE run_id = :run_id"), {"run_id": run_id}
    )
    if started is None or run_id not in (current, *previous):
        raise NotFoundError(f"run {run_id} is not kept; `python cli.py runs list` shows which are")
    rows = connection.execute(
        text(
            "SELECT kind, count(*), sum(cardinality(outfit_keys)) FROM recommendation "
            "WHERE run_id = :run_id GROUP BY kind"
        ),
        {"run_id": run_id},
    ).all()
    found = {kind: int(users) for kind, users, _ in rows}
    return PublishedRun(
        run_id=run_id,
        current=run_id == current,
        started=started,
        users={kind: found.get(kind, 0) for kind in KINDS},
        recommendations=sum(int(entries) for _, _, entries in rows),
    )


def rollback(database: Database, to: int | None = None) -> PublishedRun:
    """Show an earlier run again: `to`, or the newest kept one before the current.

    A later run stays kept, so that `to` can also name that. Raises NotFoundError.
    """
    with database.begin() as connection:
        current, previous = publication_row(connection, lock=True)
        if current is None:
            raise NotFoundError("no run is published; run `python cli.py nightly-recommend` first")
        target = to if to is not None else max((r for r in previous if r < current), default=None)
        if target is None:
            raise NotFoundError(f"run {current} is the oldest that is kept; none to go back to")
        if target != current:
            show_run(connection, target)
            _set_publication(connection, target, {current, *previous} - {target})
        return show_run(connection, target)


def drop_old_runs(database: Database, keep_runs: int) -> list[int]:
    """Drop runs beyond the newest `keep_runs`, never the current one or the one before it.

    A run that readers keep busy stays until the next time. Returns what was dropped.
    """
    with database.connect() as connection:
        current, previous = publication_row(connection)
    if current is None:
        return []
    kept = set(sorted({current, *previous}, reverse=True)[:keep_runs])
    kept |= {current, max((run for run in previous if run < current), default=current)}
    return [run for run in sorted(set(previous) - kept) if _drop(database, run)]


def sweep_partitions(database: Database) -> list[int]:
    """Drop what killed runs left: partitions of runs neither kept nor running. Their numbers."""
    with database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT substring(relname FROM '[0-9]+$')::integer FROM pg_class "
                "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
                "AND relname ~ '^recommendation_run_[0-9]+$'"
            )
        )
        found = {int(row[0]) for row in rows}
        current, previous = publication_row(connection)
        running = connection.scalars(
            text("SELECT run_id FROM job_run WHERE outcome = 'running'")
        ).all()
    return [run for run in sorted(found - {current, *previous, *running}) if _drop(database, run)]


def _wait_for_readers(database: Database) -> None:
    """Wait for the statements that were planned before the new partition was attached.

    Postgres plans a statement, with the partitions of that moment, and takes the snapshot that it
    reads with afterwards. If the run were shown in between, that statement would look for it and
    not find its partition. Whoever is in between holds a lock on the table.
    """
    query = text(
        "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' "
        "AND relation = 'public.recommendation'::regclass AND pid <> pg_backend_pid() "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    deadline = time.monotonic() + READERS_SECONDS
    with database.connect() as connection:
        waiting = set(connection.scalars(query))
        while waiting and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            waiting &= set(connection.scalars(query))


def _show(connection: Connection, run_id: int) -> None:
    current, previous = publication_row(connection, lock=True)
    _set_publication(connection, run_id, {*previous, *([] if current is None else [current])})


def publication_row(connection: Connection, *, lock: bool = False) -> tuple[int | None, list[int]]:
    """The run that readers see, and the others that are kept."""
    current, previous = connection.execute(_PUBLICATION_LOCKED if lock else _PUBLICATION).one()
    return current, list(previous)


def _set_publication(connection: Connection, current: int, previous: set[int]) -> None:
    connection.execute(
        text(
            "UPDATE publication SET current_run = :current, previous_runs = :previous, "
            "changed = now()"
        ),
        {"current": current, "previous": sorted(previous, reverse=True)},
    )


def _drop(database: Database, run_id: int) -> bool:
    """Drop a run's partition; False where readers or the database did not let us."""
    for _ in range(DROP_ATTEMPTS):
        try:
            with database.engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{DROP_LOCK_TIMEOUT}'"))
                connection.execute(
                    text(
                        "UPDATE publication "
                        "SET previous_runs = array_remove(previous_runs, :run_id) "
                        "WHERE :run_id = ANY (previous_runs)"
                    ),
                    {"run_id": run_id},
                )
                call_partition_function(connection, "drop", run_id)
            return True
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                # The database is away, or a rollback has just shown this run.
                log.warning("run %d is not dropped: %s", run_id, error.orig)
                return False
            time.sleep(POLL_SECONDS)
    log.warning("run %d is not dropped yet: it is being read", run_id)
    return False
