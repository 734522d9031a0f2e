"""Jobs are locked, recorded and measured, however they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from recjob.errors import DataError, LockedError, RecjobError, TemporaryError
from recjob.jobs import runner
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.settings import Settings
from recjob.store.database import Database
from recjob.store.ledger import RunRow, list_job_runs

ROOT = Path(__file__).resolve().parents[2]


class Counts(JobResult):
    items: int
    auc: float


def nothing(context: JobContext) -> Counts:
    return Counts(items=0, auc=0)


def last(database: Database) -> RunRow:
    with database.connect() as connection:
        return list_job_runs(connection, 1)[0]


def test_a_job_that_ends_well(database: Database, database_settings: Settings) -> None:
    def body(context: JobContext) -> Counts:
        context.freeze(model="student-1")
        with context.stage("decode") as stage:
            block = np.ones(100 * 2**20, np.uint8)
            time.sleep(0.3)
            stage.items = len(block) // 2**20
        del block
        with context.stage("write"):
            pass
        assert last(context.database).outcome == "running"
        assert context.artifacts.root == context.settings.home / "artifacts"
        return Counts(items=3, auc=0.9)

    result = run_job("import", database, database_settings, body, {"folder": "data"})
    row = last(database)
    assert (result.items, result.auc, result.run_id) == (3, 0.9, row.run_id)
    assert (row.job, row.outcome, row.error) == ("import", "done", None)
    assert row.counts == {"items": 3, "auc": 0.9}
    assert row.parameters == {"folder": "data", "model": "student-1"}
    assert [stage["name"] for stage in row.stages] == ["decode", "write"]
    decode = result.stages[0]
    assert decode.items == 100
    assert 0.3 <= decode.seconds <= result.seconds
    assert decode.peak_memory_bytes > 100 * 2**20
    assert row.stages[0] == decode.model_dump()


@pytest.mark.parametrize(
    ("error", "raised", "recorded"),
    [
        (DataError("items.csv: line 3"), DataError, "items.csv: line 3"),
        (KeyError("x"), KeyError, "KeyError: 'x'"),
        (OSError(errno.ENOSPC, "No space left", "/disk/x"), TemporaryError, "/disk/x: no space"),
        (OSError(errno.EACCES, "denied"), PermissionError, "denied"),
        (psycopg.OperationalError("server closed"), TemporaryError, "server closed"),
        (KeyboardInterrupt(), KeyboardInterrupt, "interrupted"),
        (SystemExit(1), SystemExit, "SystemExit"),
    ],
)
def test_failures_are_recorded_and_raised(
    database: Database,
    database_settings: Settings,
    error: BaseException,
    raised: type[BaseException],
    recorded: str,
) -> None:
    def body(context: JobContext) -> Counts:
        with context.stage("read"):
            raise error

    with pytest.raises(raised) as caught:
        run_job("import", database, database_settings, body)
    row = last(database)
    assert row.outcome == "failed"
    assert recorded in (row.error or "")
    assert [stage["name"] for stage in row.stages] == ["read"]
    if isinstance(caught.value, RecjobError):
        assert "\n" not in str(caught.value)
    run_job("import", database, database_settings, nothing)


def test_a_second_start_is_refused_and_leaves_no_row(
    database: Database, database_settings: Settings
) -> None:
    def inner(context: JobContext) -> Counts:
        raise AssertionError

    def body(context: JobContext) -> Counts:
        for name in ("import", "nightly-recommend"):
            with pytest.raises(LockedError, match=f"pid {os.getpid()}"):
                run_job(name, database, database_settings, inner)
        return Counts(items=0, auc=0)

    run_job("import", database, database_settings, body)
    with database.connect() as connection:
        assert len(list_job_runs(connection, 10)) == 1


@pytest.mark.parametrize(
    ("running", "other", "excluded"),
    [
        ("train-teacher", "train-autoencoder", False),
        ("train-teacher", "nightly-recommend", False),
        ("train-teacher", "import", True),
        ("embed", "nightly-recommend", True),
        ("embed", "compile", True),
        ("nightly-recommend", "report", True),
        ("nightly-recommend", "evaluate", False),
    ],
)
def test_jobs_that_change_what_another_reads_exclude_each_other(
    database: Database, database_settings: Settings, running: str, other: str, excluded: bool
) -> None:
    def body(context: JobContext) -> Counts:
        try:
            run_job(other, database, database_settings, nothing)
        except LockedError:
            return Counts(items=1, auc=0)
        return Counts(items=0, auc=0)

    assert run_job(running, database, database_settings, body).items == int(excluded)


def test_heartbeats_and_finished_stages_are_seen_while_it_runs(
    database: Database, database_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HEARTBEAT_SECONDS", 0.05)

    def body(context: JobContext) -> Counts:
        with context.stage("read"):
            first = last(database)
        return Counts(items=int(wait(lambda: last(database).stages != first.stages)), auc=0)

    assert run_job("import", database, database_settings, body).items == 1
    row = last(database)
    assert row.heartbeat > row.started


def test_a_run_that_lost_its_lease_does_not_end_well(
    database: Database, database_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HEARTBEAT_SECONDS", 0.05)

    def body(context: JobContext) -> Counts:
        with database.begin() as connection:
            connection.execute(text("UPDATE job_run SET outcome = 'killed', ended = now()"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            context.check_lease()
            time.sleep(0.01)
        return Counts(items=0, auc=0)

    with pytest.raises(TemporaryError, match="lost its lease"):
        run_job("import", database, database_settings, body)
    assert last(database).outcome == "killed"


PROGRAM = """
    import sys, time
    from pathlib import Path
    from pydantic import SecretStr
    from sqlalchemy import text
    from recjob.jobs.runner import run_job
    from recjob.settings import Settings
    from recjob.store.database import open_database
    settings = Settings(home=Path(sys.argv[1]), database_url=SecretStr(sys.argv[2]))
    def body(context):
        with context.database.begin() as connection:
            connection.execute(
                text("SELECT create_recommendation_partition(:run)"), {"run": context.run_id}
            )
        print("running", flush=True)
        time.sleep(60)
    with open_database(settings) as database:
        run_job("nightly-recommend", database, settings, body)
"""


@pytest.mark.parametrize(
    ("number", "outcome"), [(signal.SIGTERM, "failed"), (signal.SIGKILL, "killed")]
)
def test_a_job_that_is_stopped_or_killed(
    database: Database,
    database_settings: Settings,
    tmp_path: Path,
    number: signal.Signals,
    outcome: str,
) -> None:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path), url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        killed = last(database).run_id if line else 0
        try:
            with pytest.raises(LockedError, match=f"pid {process.pid} "):
                run_job("nightly-recommend", database, database_settings, nothing)
        finally:
            process.send_signal(number)
    assert process.returncode != 0
    run_job("nightly-recommend", database, database_settings, nothing)
    with database.connect() as connection:
        row = list_job_runs(connection, 2)[1]
        left = connection.scalar(
            text("SELECT to_regclass(:name)"), {"name": f"recommendation_run_{killed}"}
        )
    assert (row.run_id, row.outcome) == (killed, outcome)
    assert left is None
    if number == signal.SIGTERM:
        assert row.error == "interrupted"


def test_jobs_run_in_other_threads_too(database: Database, database_settings: Settings) -> None:
    results: list[Counts] = []

    def run() -> None:
        results.append(
            run_job("import", database, database_settings, lambda _: Counts(items=1, auc=0))
        )

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [result.items for result in results] == [1]


def wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
