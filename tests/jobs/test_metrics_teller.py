"""The scheduler's word to a textfile or a Pushgateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from recjob.jobs import metrics_teller
from recjob.jobs.metrics import SCHEDULER_TEXTFILE, TEXTFILE
from recjob.jobs.metrics_server import serve_metrics
from recjob.jobs.schedule_state import SchedulerState
from recjob.settings import Settings
from recjob.store.database import Database
from tests.jobs.test_metrics import Samples, read_samples, value
from tests.system.commands import wait_for

DUE = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_teller, "TELL_SECONDS", 0.05)


def told(settings: Settings, name: str) -> Samples:
    """What is in a file; nothing where there is none."""
    path = Path(settings.metrics.textfile_folder) / name
    return read_samples(path.read_text()) if path.exists() else {}


def says(settings: Settings, name: str, expected: float, metric: str, **labels: str) -> None:
    """Wait until a file says so."""
    wait_for(lambda: value(told(settings, name), metric, **labels) == expected)


def test_the_leader_tells_of_itself_and_of_jobs_that_end_without_a_word(
    database: Database, textfile: Settings
) -> None:
    state = SchedulerState()
    state.update(leader=True, next_runs={"embed": DUE})
    with serve_metrics(textfile, database, state):
        says(textfile, SCHEDULER_TEXTFILE, 1, "recjob_scheduler_leader")
        own = told(textfile, SCHEDULER_TEXTFILE)
        assert value(own, "recjob_database_up") == 1
        due = value(own, "recjob_schedule_next_run_timestamp_seconds", entry="embed")
        assert due == DUE.timestamp()
        with database.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO job_run (job, parameters, host, pid, heartbeat) "
                    "VALUES ('embed', '{}', 'here', 1, now() - interval '1 hour')"
                )
            )
        says(textfile, TEXTFILE, 1, "recjob_job_last_outcome", job="embed", outcome="killed")
        # A loop that hangs is seen: the figure is that of the last look, not of the last word.
        seen = state.last_tick.timestamp()
        says(textfile, SCHEDULER_TEXTFILE, seen, "recjob_scheduler_last_tick_timestamp_seconds")
        state.update(leader=True, next_runs={})
        seen = state.last_tick.timestamp()
        says(textfile, SCHEDULER_TEXTFILE, seen, "recjob_scheduler_last_tick_timestamp_seconds")


def test_one_that_stands_by_leaves_the_word_to_the_leader(
    database: Database, textfile: Settings
) -> None:
    state = SchedulerState()
    state.update(leader=False, next_runs={})
    with serve_metrics(textfile, database, state):
        pass  # it has looked once before it stops
    assert not Path(textfile.metrics.textfile_folder).exists()


def test_a_database_that_is_away_is_said_without_asking_it(
    database: Database, textfile: Settings
) -> None:
    state = SchedulerState()
    state.update(leader=False, next_runs={}, database=False)
    with serve_metrics(textfile, database, state):
        says(textfile, SCHEDULER_TEXTFILE, 0, "recjob_database_up")
    assert told(textfile, TEXTFILE) == {}


def test_a_sink_that_is_away_is_a_warning_once(
    database: Database, textfile: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = Path(textfile.metrics.textfile_folder)
    folder.write_text("in the way")
    state = SchedulerState()
    state.update(leader=True, next_runs={})

    def logged(words: str) -> Callable[[], bool]:
        return lambda: words in caplog.text

    with serve_metrics(textfile, database, state):
        wait_for(logged("are not in the textfile"))
        folder.unlink()
        wait_for(logged("are told again"))
    assert caplog.text.count("are not in the textfile") == 1
