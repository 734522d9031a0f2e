"""The scheduler's rows and its lead, on Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from recjob.errors import TemporaryError
from recjob.store.database import Database
from recjob.store.schedule_runs import (
    begin_schedule_run,
    candidacy,
    close_cut_short,
    end_schedule_run,
    last_schedule_rows,
    leader_exists,
    note_attempt,
    record_without_run,
)

SLOT = datetime(2026, 6, 2, 2, tzinfo=UTC)
CRON = "0 2 * * * UTC"
PATIENCE_SECONDS = 60.0


def wait_for(condition: Callable[[], bool]) -> None:
    """The server hears of the end of a connection a moment later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_one_leads_until_its_connection_ends(database: Database) -> None:
    with candidacy(database) as second:
        with candidacy(database) as first:
            assert first.acquire()
            assert not second.acquire()
            with database.connect() as connection:
                assert leader_exists(connection)
        wait_for(second.acquire)
    with database.connect() as connection:
        wait_for(lambda: not leader_exists(connection))


def test_the_clock_is_the_databases(database: Database) -> None:
    with candidacy(database) as leadership:
        first, second = leadership.now(), leadership.now()
    assert first < second, "that of the moment, not of a transaction"
    assert first.tzinfo is not None


def test_a_run_from_its_beginning_to_its_end(database: Database) -> None:
    with database.begin() as connection:
        assert begin_schedule_run(connection, "embed", SLOT, CRON, "early") == 0
        note_attempt(connection, "embed", SLOT, Path("a.log"))
        note_attempt(connection, "embed", SLOT, Path("b.log"))
        end_schedule_run(connection, "embed", SLOT, "done", None)
        row = last_schedule_rows(connection)["embed"]
    assert (row.outcome, row.attempts, row.log, row.reason) == ("done", 2, "b.log", "early")
    assert row.slot == SLOT
    assert row.cron == CRON


def test_a_run_that_was_cut_short_keeps_its_beginning_and_its_attempts(database: Database) -> None:
    with database.begin() as connection:
        begin_schedule_run(connection, "embed", SLOT, CRON, None)
        note_attempt(connection, "embed", SLOT, Path("a.log"))
        started = last_schedule_rows(connection)["embed"].started
        connection.execute(text("UPDATE schedule_run SET host = 'another', pid = 1"))
        with pytest.raises(TemporaryError, match="another scheduler has taken over embed"):
            end_schedule_run(connection, "embed", SLOT, "done", None)
        assert begin_schedule_run(connection, "embed", SLOT, CRON, None) == 1
        end_schedule_run(connection, "embed", SLOT, "done", None)
        row = last_schedule_rows(connection)["embed"]
    assert (row.started, row.outcome) == (started, "done")


def test_what_has_ended_cannot_be_ended_again(database: Database) -> None:
    with database.begin() as connection:
        begin_schedule_run(connection, "embed", SLOT, CRON, None)
        end_schedule_run(connection, "embed", SLOT, "failed", "why")
        with pytest.raises(TemporaryError):
            end_schedule_run(connection, "embed", SLOT, "done", None)


def test_older_rows_that_say_running_are_closed(database: Database) -> None:
    later = SLOT + timedelta(days=1)
    with database.begin() as connection:
        begin_schedule_run(connection, "embed", SLOT, CRON, None)
        begin_schedule_run(connection, "nightly", SLOT, CRON, None)
        close_cut_short(connection, "embed", later)
        record_without_run(connection, "embed", later, CRON, "skipped", "why not")
        rows = connection.execute(
            text("SELECT entry, slot, outcome FROM schedule_run ORDER BY 1, 2")
        )
        found = [(row.entry, row.slot, row.outcome) for row in rows]
        assert last_schedule_rows(connection)["embed"].reason == "why not"
    assert found == [
        ("embed", SLOT, "killed"),
        ("embed", later, "skipped"),
        ("nightly", SLOT, "running"),
    ]
