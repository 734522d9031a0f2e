"""Readers in the middle of a statement when a new run is attached: waiting for them."""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import text

from recjob.errors import TemporaryError
from recjob.store.database import Database

READERS_SECONDS: Final = 10.0
"""Wait for transactions that read before the new partition was there. Whatever statement of theirs
began then has long been planned by the end of it, unless it waits for a lock."""
STUCK_READERS_SECONDS: Final = 300.0
"""Longest wait for readers who wait for a lock themselves: then somebody has to look."""
POLL_SECONDS: Final = 0.05


def wait_for_readers(database: Database) -> None:
    """Wait for the statements that were planned before the new partition was attached.

    Postgres plans a statement, with the partitions of that moment, and takes the snapshot that it
    reads with afterwards. If the run were shown in between, that statement would look for it and
    not find its partition. Whoever is in between holds a lock on the table.

    A long transaction holds that lock too, and need not be waited for: what it began is planned
    within milliseconds, and what it begins later knows the partition. Only where planning waits for
    another table's lock can it take longer, and so the time begins again at the end of that.
    Raises TemporaryError where such a lock is held for too long.
    """
    query = text(
        "SELECT virtualtransaction, bool_or(EXISTS (SELECT FROM pg_locks AS wanted "
        "WHERE wanted.virtualtransaction = held.virtualtransaction "
        "AND wanted.locktype = 'relation' AND NOT wanted.granted)) AS stuck "
        "FROM pg_locks AS held WHERE locktype = 'relation' "
        "AND relation = 'public.recommendation'::regclass AND pid <> pg_backend_pid() "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "GROUP BY virtualtransaction"
    )
    start = free = time.monotonic()
    waiting: set[str] | None = None
    with database.connect() as connection:
        while True:
            found = {row.virtualtransaction: row.stuck for row in connection.execute(query)}
            waiting = set(found) if waiting is None else waiting & set(found)
            now = time.monotonic()
            if any(found[reader] for reader in waiting):
                free = now
            if not waiting or now - free >= READERS_SECONDS:
                return
            if now - start >= STUCK_READERS_SECONDS:
                raise TemporaryError(
                    f"readers of recommendations have waited {STUCK_READERS_SECONDS:.0f} s for a "
                    "lock that somebody holds on another table (pg_locks shows who), and the new "
                    "run cannot be shown until then; try again"
                )
            time.sleep(POLL_SECONDS)
