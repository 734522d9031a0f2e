"""Publishing a run: load it beside the others, check it, keep it, show it by changing one row.

Three transactions. `load_run` makes, fills and checks the partition; a failure leaves nothing.
`keep_run` attaches it, which readers do not notice. `show_run` changes the row that says which run
readers see. Each goes through only if the run still holds its lease. What a kill leaves between
them is swept at the next start of a job. A run that a limit holds back is kept and not shown.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from recjob.catalog.catalog import Int32Array
from recjob.errors import NotFoundError, RefusedError, TemporaryError
from recjob.store.bulk import copy_out
from recjob.store.catalog_store import CatalogKeys
from recjob.store.database import Database
from recjob.store.ledger import hold_lease
from recjob.store.readers import wait_for_readers
from recjob.store.run_lists import (
    RunLists,
    call_partition_function,
    check_partition,
    copy_lists,
    partition_name,
)

DROP_LOCK_TIMEOUT: Final = "100ms"
"""Dropping a partition shuts readers out while it waits for those before it: never for long."""
DROP_ATTEMPTS: Final = 20
POLL_SECONDS: Final = 0.05

_PUBLICATION = text("SELECT current_run, previous_runs FROM publication")
_PUBLICATION_LOCKED = text("SELECT current_run, previous_runs FROM publication FOR UPDATE")

log = logging.getLogger(__name__)


def publication_row(connection: Connection, *, lock: bool = False) -> tuple[int | None, list[int]]:
    """The run that readers see, and the other kept ones they have seen, the last seen first."""
    current, previous = connection.execute(_PUBLICATION_LOCKED if lock else _PUBLICATION).one()
    return current, list(previous)


def published_statistics(connection: Connection) -> tuple[int, dict[str, Any]] | None:
    """Number and statistics of the run that readers see; None where none is published."""
    row = connection.execute(
        text(
            "SELECT run_id, statistics FROM recommendation_run "
            "WHERE run_id = (SELECT current_run FROM publication)"
        )
    ).one_or_none()
    return None if row is None else (row.run_id, row.statistics)


def was_held(connection: Connection, run_id: int) -> bool:
    """Whether a limit kept the run back, also where somebody has shown it since."""
    return bool(
        connection.scalar(
            text(
                "SELECT held IS NOT NULL OR statistics ? 'forced' FROM recommendation_run "
                "WHERE run_id = :run_id"
            ),
            {"run_id": run_id},
        )
    )


def runs_shown_before(connection: Connection, nights: int) -> list[int]:
    """The last `nights` runs that readers saw, the one they see now first."""
    current, previous = publication_row(connection)
    return [] if current is None else [current, *previous][:nights]


def recent_outfits(
    connection: Connection, run_ids: Iterable[int], user_keys: Int32Array
) -> tuple[Int32Array, Int32Array]:
    """What runs showed to users: `(user_key, outfit_key)` pairs as two int32 arrays.

    Of each list the places that readers were shown, in no order. `user_keys` (n,).
    """
    # Lists first, by the key, and only then their places: OFFSET 0 keeps the planner from the scan.
    rows = copy_out(
        connection,
        "SELECT user_key, listed.outfit_key FROM unnest(%(users)s::integer[]) AS wanted (user_key) "
        "CROSS JOIN LATERAL (SELECT outfit_keys[:shown] AS shown FROM recommendation "
        "JOIN recommendation_run USING (run_id) WHERE recommendation.user_key = wanted.user_key "
        "AND recommendation.run_id = ANY (%(runs)s::integer[]) OFFSET 0) AS list "
        "CROSS JOIN LATERAL unnest(list.shown) AS listed (outfit_key)",
        {"user": "i4", "outfit": "i4"},
        {"users": user_keys.tolist(), "runs": list(run_ids)},
    )
    return rows["user"].astype(np.int32), rows["outfit"].astype(np.int32)


def load_run(
    database: Database,
    run_id: int,
    keys: CatalogKeys,
    shards: Iterable[RunLists],
    *,
    exclude_seen: bool,
    shown: int,
) -> int:
    """Load the lists of all `shards` into a partition of their own and check them; their number.

    One transaction: a failure leaves nothing. What an earlier attempt of this run left is dropped
    first. `shards` is read once, in this thread, one at a time; it may use other connections.

    Raises RefusedError where a check fails or two lists are for one user, ValueError where lists
    are shorter than the `shown` places, TemporaryError where the lease is lost.
    """
    with database.connect() as connection:
        hold_lease(connection, run_id)
        left = connection.scalar(
            text("SELECT to_regclass(:name) IS NOT NULL"), {"name": partition_name(run_id)}
        )
    if left and not drop_run(database, run_id):
        raise TemporaryError(f"run {run_id}: what an earlier attempt left is being read; try again")
    with database.begin() as connection:
        call_partition_function(connection, "create", run_id)
        loaded = copy_lists(connection, run_id, keys, _wide_enough(shards, shown))
        _seal(connection, run_id)
        check_partition(connection, run_id, loaded, exclude_seen)
        # Not earlier: it locks the row of the ledger, where the heartbeat writes.
        hold_lease(connection, run_id)
    return loaded.lists


def keep_run(
    database: Database,
    run_id: int,
    *,
    shown: int,
    statistics: Mapping[str, Any],
    held: str | None = None,
) -> None:
    """Attach a loaded run; readers do not see it yet. Done twice, the second time wins.

    `shown`: places of a list that readers see; `statistics`: what JSON can hold; `held`: why the
    run will not be shown. Raises TemporaryError where the lease is lost.
    """
    with database.begin() as connection:
        hold_lease(connection, run_id)
        kept = connection.scalar(
            text("SELECT 1 FROM recommendation_run WHERE run_id = :run_id"), {"run_id": run_id}
        )
        if kept is None:
            call_partition_function(connection, "attach", run_id)
        connection.execute(
            text(
                "INSERT INTO recommendation_run (run_id, shown, statistics, held) "
                "VALUES (:run_id, :shown, cast(:statistics AS jsonb), :held) "
                "ON CONFLICT (run_id) DO UPDATE SET shown = excluded.shown, "
                "statistics = excluded.statistics, held = excluded.held"
            ),
            {
                "run_id": run_id,
                "shown": shown,
                "statistics": json.dumps(dict(statistics)),
                "held": held,
            },
        )


def show_run(database: Database, run_id: int) -> None:
    """Let readers see a kept run from now on. Done twice, the second changes nothing.

    Raises TemporaryError where the lease is lost, or where readers are stuck.
    """
    wait_for_readers(database)
    with database.begin() as connection:
        hold_lease(connection, run_id)
        _show(connection, run_id)


def publish_kept(database: Database, run_id: int) -> None:
    """Show a kept run at somebody's wish, also one that a limit held back; that is recorded.

    Raises NotFoundError where the run is not kept.
    """
    _require_kept(database, run_id)
    wait_for_readers(database)
    with database.begin() as connection:
        _show(connection, run_id)
        connection.execute(
            text(
                "UPDATE recommendation_run SET held = NULL, "
                "statistics = statistics || jsonb_build_object('forced', jsonb_build_object("
                "'held', held, 'by', session_user, 'at', now())) "
                "WHERE run_id = :run_id AND held IS NOT NULL"
            ),
            {"run_id": run_id},
        )


def rollback(database: Database, to: int | None = None) -> int:
    """Show an earlier run again: `to`, or the newest before the current that readers have seen.

    A later run stays kept, so that `to` can also name that. Its number. Raises NotFoundError.
    """
    with database.begin() as connection:
        current, previous = publication_row(connection, lock=True)
        if current is None:
            raise NotFoundError("no run is published; run `python cli.py nightly-recommend` first")
        target = to if to is not None else max((r for r in previous if r < current), default=None)
        if target is None:
            raise NotFoundError(f"run {current} is the oldest that is kept; none to go back to")
        if target not in (current, *previous):
            raise NotFoundError(
                f"run {target} is not kept; `python cli.py runs list` shows which are"
                if not _is_kept(connection, target)
                else f"readers have never seen run {target}; `python cli.py runs publish {target}` "
                "shows it"
            )
        _show(connection, target)
        return target


def drop_old_runs(database: Database, keep_runs: int) -> list[int]:
    """Drop runs beyond the newest `keep_runs`, shown or held; what was dropped.

    Never the published run, the one that readers saw before it, nor the one that a rollback would
    show. A run that readers keep busy stays until the next time.
    """
    with database.connect() as connection:
        current, previous = publication_row(connection)
        runs = connection.scalars(
            text("SELECT run_id FROM recommendation_run ORDER BY run_id DESC")
        ).all()
    if current is None:
        return []
    before = [run for run in previous if run < current]
    kept = {current, *runs[:keep_runs], *previous[:1], *([max(before)] if before else [])}
    return [run for run in sorted(set(runs) - kept) if drop_run(database, run)]


def sweep_partitions(database: Database) -> list[int]:
    """Drop what killed runs left; the runs' numbers.

    That is partitions of runs that are neither kept nor running, runs that were kept and then
    neither shown nor held back, and what is known of runs whose partition is gone.
    """
    rows = text(
        r"""
        WITH partition AS (
            SELECT substring(relname FROM '[0-9]+$')::integer AS run_id FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND relname ~ '^recommendation_run_[0-9]+$'
        )
        SELECT run_id FROM partition FULL JOIN recommendation_run AS kept USING (run_id)
        WHERE NOT EXISTS (SELECT FROM partition AS own WHERE own.run_id = kept.run_id)
        OR NOT EXISTS (
            SELECT FROM publication WHERE run_id = current_run OR run_id = ANY (previous_runs)
            OR kept.held IS NOT NULL
        )
        EXCEPT
        SELECT run_id FROM job_run WHERE outcome = 'running'
        ORDER BY run_id
        """
    )
    with database.connect() as connection:
        found = connection.scalars(rows).all()
    return [run for run in found if drop_run(database, run)]


def drop_run(database: Database, run_id: int) -> bool:
    """Drop all of a run; False where readers or the database did not let us."""
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


def _wide_enough(shards: Iterable[RunLists], shown: int) -> Iterable[RunLists]:
    for shard in shards:
        if shard.outfits.shape[-1] < shown:
            raise ValueError(f"lists of {shard.outfits.shape[-1]} places, of which {shown} show")
        yield shard


def _seal(connection: Connection, run_id: int) -> None:
    """Give the loaded partition its key and check; RefusedError where the key is not one."""
    try:
        call_partition_function(connection, "seal", run_id)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise
        raise RefusedError(
            f"run {run_id} has two lists for one user; nothing was published"
        ) from None


def _is_kept(connection: Connection, run_id: int) -> bool:
    return bool(
        connection.scalar(
            text("SELECT count(*) FROM recommendation_run WHERE run_id = :run_id"),
            {"run_id": run_id},
        )
    )


def _require_kept(database: Database, run_id: int) -> None:
    with database.connect() as connection:
        if not _is_kept(connection, run_id):
            raise NotFoundError(
                f"run {run_id} is not kept; `python cli.py runs list` shows which are"
            )


def _show(connection: Connection, run_id: int) -> None:
    current, previous = publication_row(connection, lock=True)
    if current == run_id:
        return
    seen = [run for run in (current, *previous) if run not in (None, run_id)]
    connection.execute(
        text(
            "UPDATE publication SET current_run = :current, previous_runs = :previous, "
            "changed = now()"
        ),
        {"current": run_id, "previous": seen},
    )
