"""The scheduler's loop on a real database, with shell commands for its jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from recjob.errors import SettingsError
from recjob.jobs.schedule import Scheduler, run_schedule
from recjob.jobs.schedule_entries import schedule_entries
from recjob.jobs.schedule_list import list_schedule
from recjob.settings import MetricsSettings, ScheduleSettings, Settings
from recjob.store.database import Database, administrator
from recjob.store.schedule_runs import SCHEDULER_CLASS

PATIENCE_SECONDS = 60.0


class Schedulers:
    """Schedulers in threads, on one database, whose only job is the night."""

    def __init__(self, settings: Settings, database: Database, folder: Path) -> None:
        self.settings = settings.model_copy(
            update={
                "metrics": MetricsSettings(sink="none"),
                "schedule": ScheduleSettings(
                    autoencoder_cron="",
                    teacher_cron="",
                    student_cron="",
                    embed_cron="",
                    retention_cron="",
                    standby_seconds=0.1,
                    backoff_seconds=0.0,
                    kill_seconds=1.0,
                ),
            }
        )
        self.database = database
        self.ran = folder / "ran"
        self.script = f"echo x >> {self.ran}"
        self.all: list[tuple[Scheduler, threading.Thread]] = []

    def start(self) -> Scheduler:
        """One more."""
        scheduler = Scheduler(self.settings, schedule_entries(self.settings), self.command)
        thread = threading.Thread(target=scheduler.serve)
        self.all.append((scheduler, thread))
        thread.start()
        return scheduler

    def command(self, arguments: Sequence[str]) -> list[str]:
        return ["sh", "-c", self.script]

    def stop(self, scheduler: Scheduler) -> None:
        """As SIGTERM does."""
        scheduler.control.stopping = True
        next(thread for known, thread in self.all if known is scheduler).join(PATIENCE_SECONDS)

    def miss(self) -> None:
        """No scheduler has run for three days."""
        entry = next(e for e in schedule_entries(self.settings) if e.name == "nightly")
        self.execute(
            "INSERT INTO schedule_run (entry, slot, started, ended, outcome, host, pid, cron) "
            "VALUES ('nightly', :slot, :slot, :slot, 'done', 'h', 1, :cron)",
            slot=datetime.now(UTC) - timedelta(days=3),
            cron=entry.identity,
        )

    def execute(self, statement: str, **values: object) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement), values)

    def outcomes(self) -> list[str]:
        """Of the night, the latest first."""
        with self.database.connect() as connection:
            query = "SELECT outcome FROM schedule_run WHERE entry = 'nightly' ORDER BY slot DESC"
            return list(connection.scalars(text(query)))

    def runs(self) -> int:
        """How often the night's command began."""
        return len(self.ran.read_text().splitlines()) if self.ran.exists() else 0


@pytest.fixture
def schedulers(
    database_settings: Settings, database: Database, tmp_path: Path
) -> Iterator[Schedulers]:
    """None yet; all that are started are stopped."""
    made = Schedulers(database_settings, database, tmp_path)
    try:
        yield made
    finally:
        for scheduler, _ in made.all:
            made.stop(scheduler)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_missed_night_runs_at_once_once_and_the_standby_takes_over(
    schedulers: Schedulers,
) -> None:
    schedulers.miss()
    first = schedulers.start()
    wait_for(lambda: schedulers.outcomes() == ["done", "done"])
    assert schedulers.runs() == 1
    second = schedulers.start()
    wait_for(lambda: "nightly" in second.state.next_runs)
    assert first.state.leader
    assert not second.state.leader
    schedulers.stop(first)
    wait_for(lambda: second.state.leader)
    ticked = second.state.last_tick
    wait_for(lambda: second.state.last_tick > ticked + timedelta(seconds=1))
    assert schedulers.runs() == 1
    assert schedulers.outcomes() == ["done", "done"]


def test_the_first_start_begins_with_the_next_time(schedulers: Schedulers) -> None:
    scheduler = schedulers.start()
    wait_for(lambda: schedulers.outcomes() == ["skipped"])
    schedulers.stop(scheduler)
    assert schedulers.runs() == 0
    [nightly] = [e for e in list_schedule(schedulers.settings).entries if e.entry == "nightly"]
    assert nightly.last_reason == "new in the schedule: begins with its next time"
    assert nightly.next is not None
    assert nightly.next > datetime.now(UTC)
    assert nightly.commands == ("nightly-recommend",)


def test_a_stop_ends_the_job_and_the_next_scheduler_takes_it_up(schedulers: Schedulers) -> None:
    schedulers.script = f"echo x >> {schedulers.ran}; sleep 60 & wait"
    schedulers.miss()
    scheduler = schedulers.start()
    wait_for(lambda: schedulers.runs() == 1)
    schedulers.stop(scheduler)
    assert schedulers.outcomes() == ["killed", "done"]
    schedulers.script = f"echo x >> {schedulers.ran}"
    schedulers.start()
    wait_for(lambda: schedulers.outcomes() == ["done", "done"])
    assert schedulers.runs() == 2


def test_a_lost_connection_loses_the_lead_and_not_the_job(
    schedulers: Schedulers, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    schedulers.script = f"echo x >> {schedulers.ran}; until test -e '{go_on}'; do sleep 0.05; done"
    schedulers.miss()
    scheduler = schedulers.start()
    wait_for(lambda: schedulers.runs() == 1)
    url = schedulers.database.url
    with administrator(url) as engine, engine.connect() as connection:
        ended = connection.scalars(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND classid = :lock AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            {"lock": SCHEDULER_CLASS},
        ).all()
    assert ended == [True]
    wait_for(lambda: not scheduler.control.leading)
    wait_for(lambda: scheduler.state.leader and scheduler.control.leading)
    assert list_schedule(schedulers.settings).leader
    go_on.touch()
    wait_for(lambda: schedulers.outcomes() == ["done", "done"])
    assert schedulers.runs() == 1


def test_a_fault_of_ours_is_not_hidden(schedulers: Schedulers) -> None:
    def broken(arguments: Sequence[str]) -> list[str]:
        raise ZeroDivisionError

    schedulers.miss()
    entries = schedule_entries(schedulers.settings)
    with pytest.raises(ZeroDivisionError):
        Scheduler(schedulers.settings, entries, broken).serve()


def test_a_wrong_schedule_is_told_before_anything_starts(tmp_path: Path) -> None:
    schedule = ScheduleSettings(nightly_cron="every night")
    with pytest.raises(SettingsError, match=r"^schedule\.nightly_cron: "):
        run_schedule(Settings(home=tmp_path / "var", schedule=schedule))
    assert not (tmp_path / "var").exists()
