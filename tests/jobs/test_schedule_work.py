"""Runs of an entry, with shell commands for its jobs and the real ledger."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from recjob.jobs.runner import JOB_LOCKS
from recjob.jobs.schedule_entries import Entry, schedule_entries
from recjob.jobs.schedule_work import Control, EntryRun, Site, log_file
from recjob.settings import ScheduleSettings, Settings
from recjob.store.database import Database
from recjob.store.ledger import Lease
from recjob.store.schedule_runs import ScheduleRow, last_schedule_rows

SLOT = datetime.now(UTC) - timedelta(hours=2)
FAST = {"backoff_seconds": 0.0, "retries": 2, "kill_seconds": 1.0}


class Shell:
    """Runs a script for each job and counts how often."""

    def __init__(self, folder: Path, database: Database, **scripts: str) -> None:
        self.folder = folder
        self.scripts = scripts
        self.started: list[str] = []
        self.control = Control()
        self.control.leading = True
        self.database = database

    def __call__(self, arguments: Sequence[str]) -> list[str]:
        self.started.append(arguments[0])
        return ["sh", "-c", self.scripts.get(arguments[0].replace("-", "_"), "exit 0")]

    def run(self, name: str, limit_seconds: float | None = None, **schedule: Any) -> ScheduleRow:
        """Run an entry of the schedule and return its row."""
        made = ScheduleSettings.model_validate(FAST | {"import_folder": "shop"} | schedule)
        settings = Settings(home=self.folder, schedule=made)
        entry = next(entry for entry in schedule_entries(settings) if entry.name == name)
        if limit_seconds is not None:
            entry = Entry(entry.name, entry.cron, entry.steps, limit_seconds)
        site = Site(settings, self.database, self, self.control)
        EntryRun(entry, SLOT, site, None, SLOT)()
        with self.database.connect() as connection:
            return last_schedule_rows(connection)[name]

    def ledger(self, job: str, outcome: str, hours: float = 1, **parameters: str | bool) -> None:
        """A run of a job, so many hours ago, that somebody else started."""
        with self.database.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO job_run (job, parameters, host, pid, started, ended, outcome, "
                    "error) VALUES (:job, cast(:parameters AS jsonb), 'h', 1, :at, :at, :outcome, "
                    ":error)"
                ),
                {
                    "job": job,
                    "outcome": outcome,
                    "at": datetime.now(UTC) - timedelta(hours=hours),
                    "parameters": json.dumps(parameters),
                    "error": None if outcome == "done" else "worse than before",
                },
            )


@pytest.fixture
def shell(tmp_path: Path, database: Database) -> Shell:
    """All commands end well."""
    return Shell(tmp_path, database)


def test_a_run_that_ends_well(shell: Shell) -> None:
    row = shell.run("student")
    assert (row.outcome, row.attempts, row.reason) == ("done", 3, None)
    assert shell.started == ["distill", "compile", "gate"]
    assert row.log == str(log_file(shell.folder, "student", SLOT, 3))
    assert Path(row.log).read_text().startswith("$ sh -c")
    assert row.slot == SLOT
    assert row.ended is not None


@pytest.mark.parametrize("code", ["exit 1", "exit 5", "exit 130", "kill -9 $$"])
def test_a_fault_that_a_retry_mends(shell: Shell, code: str) -> None:
    file = shell.folder / "tried"
    shell.scripts["embed"] = f"test -e {file} || {{ touch {file}; {code}; }}"
    row = shell.run("embed")
    assert (row.outcome, row.attempts) == ("done", 2)
    logs = sorted(path.name for path in (shell.folder / "logs" / "embed").iterdir())
    assert [name.rpartition("-")[2] for name in logs] == ["1.log", "2.log"]


def test_a_fault_that_stays(shell: Shell) -> None:
    shell.scripts["embed"] = "echo 'error: no database' >&2; exit 5"
    row = shell.run("embed")
    assert (row.outcome, row.attempts) == ("failed", 3)
    assert row.reason == "embed ended with exit code 5: no database"


@pytest.mark.parametrize(
    ("job", "attempts"), [("embed", 1), ("import", 3)], ids=["for nothing", "for a late export"]
)
def test_after_the_users_mistake_only_an_import_is_tried_again(
    shell: Shell, job: str, attempts: int
) -> None:
    shell.scripts[job] = "echo 'error: no such folder'; exit 2"
    row = shell.run(job)
    assert (row.outcome, row.attempts) == ("failed", attempts)
    assert row.reason == f"{job} ended with exit code 2: no such folder"


def test_an_export_that_is_late_is_waited_for(shell: Shell) -> None:
    export = shell.folder / "export"
    shell.scripts["import"] = f"test -e {export} || {{ touch {export}; exit 2; }}"
    row = shell.run("import")
    assert (row.outcome, row.attempts) == ("done", 2)


def test_a_later_command_needs_the_one_before_it(shell: Shell) -> None:
    shell.scripts["distill"] = "exit 2"
    assert shell.run("student").outcome == "failed"
    assert shell.started == ["distill"]


def test_a_refused_student(shell: Shell) -> None:
    shell.scripts["gate"] = "echo 'error: AUC fell by 0.02'; exit 4"
    row = shell.run("student")
    assert (row.outcome, row.reason) == ("refused", "gate: AUC fell by 0.02")
    assert row.attempts == 3


def test_a_lock_is_waited_for_beyond_the_retries(shell: Shell) -> None:
    count = shell.folder / "count"
    shell.scripts["embed"] = f"echo x >> {count}; test $(wc -l < {count}) -gt 4 || exit 3"
    row = shell.run("embed")
    assert (row.outcome, row.attempts) == ("done", 5)


def test_a_lock_is_not_waited_for_for_ever(shell: Shell) -> None:
    shell.scripts["embed"] = "echo 'error: import holds catalog'; exit 3"
    row = shell.run("embed", wait_hours=0)
    assert (row.outcome, row.attempts) == ("failed", 1)
    assert row.reason == "embed ended with exit code 3: import holds catalog, for 0 hours"


def test_pauses_grow(shell: Shell) -> None:
    shell.scripts["embed"] = f"date +%s.%N >> {shell.folder}/times; exit 5"
    shell.run("embed", backoff_seconds=0.2, backoff_factor=4)
    first, second, third = map(float, (shell.folder / "times").read_text().split())
    assert second - first >= 0.2
    assert third - second >= 0.8


def test_the_limit_is_that_of_all_commands_together(shell: Shell) -> None:
    shell.scripts |= {"distill": "sleep 0.6", "compile": "sleep 60 & wait"}
    row = shell.run("student", limit_seconds=1.5)
    assert row.outcome == "failed"
    assert row.attempts == 2, "a time limit is no fault that a retry mends"
    assert row.reason is not None
    assert row.reason.startswith("compile was stopped: ")


def test_what_somebody_has_run_since_is_not_run_again(shell: Shell) -> None:
    shell.ledger("embed", "done")
    row = shell.run("embed")
    assert row.outcome == "skipped"
    assert row.reason == "somebody has run it since then: run 1"
    assert shell.started == []


@pytest.mark.parametrize(
    ("outcome", "minutes", "started"),
    [("done", 30, ["embed"]), ("done", 90, []), ("failed", 30, [])],
    ids=["before the import's end", "after it", "the import changed nothing"],
)
def test_what_ran_before_the_import_had_ended_does_not_count(
    shell: Shell, outcome: str, minutes: float, started: list[str]
) -> None:
    shell.ledger("embed", "done")
    with shell.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO schedule_run (entry, slot, ended, outcome, host, pid) "
                "VALUES ('import', :slot, :ended, :outcome, 'h', 1)"
            ),
            {
                "slot": SLOT,
                "ended": datetime.now(UTC) - timedelta(minutes=minutes),
                "outcome": outcome,
            },
        )
    shell.run("embed")
    assert shell.started == started


@pytest.mark.parametrize(("outcome", "hours"), [("done", 3), ("failed", 1), ("killed", 1)])
def test_what_came_before_or_failed_does_not_count(
    shell: Shell, outcome: str, hours: float
) -> None:
    shell.ledger("embed", outcome, hours)
    assert shell.run("embed").outcome == "done"


def test_an_import_of_another_folder_or_of_a_part_does_not_count(shell: Shell) -> None:
    folder = str(Path("shop").resolve())
    shell.ledger("import", "done", folder="/elsewhere", snapshot=True)
    shell.ledger("import", "done", folder=folder, snapshot=False)
    assert shell.run("import").outcome == "done"
    shell.ledger("import", "done", folder=folder, snapshot=True)
    assert shell.run("import").attempts == 1, "the second run started nothing"
    assert shell.run("import", import_snapshot=False).attempts == 1


def test_a_run_that_was_cut_short_goes_on_with_what_is_missing(shell: Shell) -> None:
    shell.control.stopping = True
    row = shell.run("student")
    assert row.outcome == "killed"
    shell.control.stopping = False
    shell.ledger("distill", "done")
    row = shell.run("student")
    assert (row.outcome, shell.started) == ("done", ["compile", "gate"])


def test_a_run_that_goes_on_without_its_scheduler_is_waited_for(shell: Shell) -> None:
    lease = Lease(shell.database, "embed", JOB_LOCKS["embed"], {})
    result: list[ScheduleRow] = []
    thread = threading.Thread(target=lambda: result.append(shell.run("embed")))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    lease.end("done", {}, [], {}, None)
    thread.join()
    assert shell.started == [], "its result is the entry's"
    assert result[0].outcome == "skipped"


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(shell: Shell) -> None:
    lease = Lease(shell.database, "embed", JOB_LOCKS["embed"], {})
    row = shell.run("embed", wait_hours=0)
    assert row.outcome == "failed"
    assert row.reason is not None
    assert row.reason.startswith("embed runs for too long already (pid ")
    lease.end("done", {}, [], {}, None)


def test_a_dead_run_is_not_waited_for(shell: Shell) -> None:
    shell.ledger("embed", "killed")
    with shell.database.begin() as connection:
        connection.execute(text("UPDATE job_run SET outcome = 'running', ended = NULL"))
    assert shell.run("embed").outcome == "done"


def test_the_gates_verdict_stands_and_a_refused_import_is_tried_again(shell: Shell) -> None:
    for job, outcome in (("distill", "done"), ("compile", "done"), ("gate", "refused")):
        shell.ledger(job, outcome)
    shell.ledger("import", "refused", folder=str(Path("shop").resolve()), snapshot=True)
    row = shell.run("student")
    assert (row.outcome, row.reason) == ("refused", "gate: worse than before")
    assert shell.run("import").outcome == "done"
    assert shell.started == ["import"]


def test_a_training_that_had_nothing_to_do(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Shell.__call__

    def with_row(self: Shell, arguments: Sequence[str]) -> list[str]:
        self.ledger(arguments[0], "skipped", 0)
        return started(self, arguments)

    monkeypatch.setattr(Shell, "__call__", with_row)
    row = shell.run("teacher")
    assert (row.outcome, row.reason, row.attempts) == ("skipped", "worse than before", 1)


def test_without_the_lead_a_run_is_left_to_the_next_leader(shell: Shell) -> None:
    shell.control.leading = False
    row = shell.run("embed")
    assert (row.outcome, row.attempts, shell.started) == ("running", 0, [])


def test_what_another_scheduler_took_over_is_left_alone(shell: Shell) -> None:
    started = Shell.__call__

    class Taken(Shell):
        def __call__(self, arguments: Sequence[str]) -> list[str]:
            with self.database.begin() as connection:
                connection.execute(text("UPDATE schedule_run SET host = 'another'"))
            return started(self, arguments)

    taken = Taken(shell.folder, shell.database)
    row = taken.run("embed")
    assert (row.outcome, row.host) == ("running", "another")
