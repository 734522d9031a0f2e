"""How it stands, told from the database; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from recjob.errors import TemporaryError, UserError
from recjob.jobs.runner import JOB_LOCKS
from recjob.jobs.status import folder_bytes, status
from recjob.settings import ScheduleSettings, Settings
from recjob.store.database import Database
from recjob.store.ledger import Lease
from recjob.store.schedule_runs import candidacy
from tests.command_line import Run, environment

MODEL = (
    "INSERT INTO model (model_id, role, settings, data_fingerprint, metrics, sha256, status, "
    "code_version, seed, created) VALUES (%s, %s, '{}', 'f', %s, repeat('a', 64), %s, '1', 0, "
    "now() - make_interval(hours => %s))"
)


def execute(database: Database, query: str, *values: object) -> None:
    with psycopg.connect(str(database.url).replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(query.encode(), values or None)


def end(database: Database, job: str, outcome: str, error: str | None = None) -> int:
    """A run that has ended; its number."""
    lease = Lease(database, job, JOB_LOCKS[job], {})
    lease.end(outcome, {}, [], {}, error)  # type: ignore[arg-type]
    return lease.run_id


def publish(database: Database, hours: float, held: str | None = None) -> int:
    """A run of so many hours ago; shown, unless it is held back."""
    run = end(database, "nightly-recommend", "done")
    statistics = {"model": "s1", "lists": 9, "users": {"warm": 6, "cold": 2, "stranger": 1}}
    execute(
        database,
        "INSERT INTO recommendation_run (run_id, shown, statistics, held, written) "
        "VALUES (%s, 10, %s, %s, now() - make_interval(secs => %s))",
        *(run, json.dumps(statistics), held, hours * 3600),
    )
    if held is None:
        execute(database, "UPDATE publication SET current_run = %s", run)
    return run


def test_an_empty_catalog_is_stale(database: Database, database_settings: Settings) -> None:
    report = status(database_settings)
    assert report.stale == "no run is published; run `python cli.py nightly-recommend`"
    assert (report.published, report.running, report.jobs, report.models) == (None, (), (), ())
    assert report.catalog is not None
    assert (report.catalog.items_available, report.catalog.interactions) == (0, 0)
    assert report.disk.database is not None
    assert report.disk.free is None  # the home folder is not there, and is not made
    assert not database_settings.home.exists()


@pytest.mark.parametrize(("hours", "stale"), [(25.9, False), (26.1, True)])
def test_the_age_of_the_published_run(
    database: Database, database_settings: Settings, hours: float, stale: bool
) -> None:
    run = publish(database, hours)
    held = publish(database, 0, "5 lists instead of 9")
    report = status(database_settings)
    assert report.published is not None
    assert (report.published.run, report.published.lists) == (run, 9)
    assert report.published.users == {"warm": 6, "cold": 2, "stranger": 1}
    assert report.published.age_hours == pytest.approx(hours, abs=0.05)
    assert (report.stale is not None) is stale
    assert report.held is not None
    assert (report.held.run, report.held.reason) == (held, "5 lists instead of 9")
    if stale:
        assert report.stale is not None
        assert report.stale.startswith(f"the published run {run} is 26.1 hours old")


def test_running_dead_and_ended_jobs(database: Database, database_settings: Settings) -> None:
    end(database, "import", "done")
    failed = end(database, "import", "failed", "the disk is full")
    skipped = end(database, "report", "skipped", "nothing is new")
    execute(
        database,
        "INSERT INTO job_run (job, host, pid, started, heartbeat) "
        "VALUES ('embed', 'gone', 7, now() - interval '2 h', now() - interval '1 h')",
    )
    lease = Lease(database, "evaluate", JOB_LOCKS["evaluate"], {})  # marks the dead one as killed
    execute(
        database,
        "INSERT INTO job_run (job, host, pid, started, heartbeat) "
        "VALUES ('distill', 'gone', 8, now() - interval '2 h', now() - interval '1 h')",
    )
    try:
        lease.beat([], {}, "rank users")
        report = status(database_settings)
    finally:
        lease.end("done", {}, [], {}, None)
    running = {job.job: job for job in report.running}
    assert set(running) == {"evaluate", "distill"}
    assert (running["evaluate"].stage, running["evaluate"].alive) == ("rank users", True)
    assert running["evaluate"].heartbeat_seconds < 60
    dead = running["distill"]
    assert (dead.alive, dead.host, dead.pid, dead.stage) == (False, "gone", 8, None)
    assert dead.heartbeat_seconds == pytest.approx(3600, abs=60)
    ended = {job.job: (job.run, job.outcome, job.error) for job in report.jobs}
    assert ended["import"] == (failed, "failed", "the disk is full")
    assert ended["report"] == (skipped, "skipped", "nothing is new")
    assert ended["embed"][1] == "killed"


def test_models_in_use_candidates_and_the_gate(
    database: Database, database_settings: Settings
) -> None:
    for model, state, hours in (
        ("s1", "retired", 90),
        ("s2", "candidate", 80),
        ("s3", "active", 70),
        ("s4", "candidate", 60),
    ):
        metrics = json.dumps({"validation": {"auc": 0.8, "by": [1]}})
        execute(database, MODEL, model, "student", metrics, state, hours)
    execute(
        database,
        "INSERT INTO gate_decision (model_key, against, decision, reason) "
        "SELECT new.model_key, old.model_key, 'refused', 'AUC' FROM model new, model old "
        "WHERE new.model_id = 's4' AND old.model_id = 's3'",
    )
    report = status(database_settings)
    assert [(line.model, line.status) for line in report.models] == [
        ("s4", "candidate"),
        ("s3", "active"),
    ]
    assert report.models[1].age_hours == pytest.approx(70, abs=0.1)
    assert report.models[1].validation == {"auc": 0.8}
    assert report.gate is not None
    assert (report.gate.model, report.gate.against) == ("s4", "s3")
    assert (report.gate.decision, report.gate.reason) == ("refused", "AUC")


def test_the_schedule_and_its_leader(database: Database, database_settings: Settings) -> None:
    planned = ScheduleSettings(import_folder="shop", teacher_cron="")
    settings = database_settings.model_copy(update={"schedule": planned})
    assert status(settings).schedule.leader is None
    with candidacy(database) as leadership:
        assert leadership.acquire()
        schedule = status(settings).schedule
    assert schedule.leader is not None
    next_runs = {entry.entry: entry.next for entry in schedule.entries}
    assert next_runs["teacher"] is None
    assert next_runs["import"] is not None
    assert (next_runs["import"].hour, next_runs["import"].minute) == (1, 0)
    wrong = ScheduleSettings(nightly_cron="never")
    told = status(database_settings.model_copy(update={"schedule": wrong})).schedule
    assert told.error is not None
    assert "schedule.nightly_cron" in told.error


def test_a_watcher_may_look_but_not_at_the_catalog(
    database: Database, database_settings: Settings
) -> None:
    publish(database, 1)
    execute(database, "DROP ROLE IF EXISTS status_watcher")
    execute(database, "CREATE USER status_watcher IN ROLE recjob_monitor")
    url = database.url.set(username="status_watcher")
    try:
        settings = database_settings.model_copy(update={"database_url": SecretStr(str(url))})
        report = status(settings)
        assert report.published is not None
        assert report.catalog is None
    finally:
        execute(database, "DROP ROLE status_watcher")


def test_it_writes_nothing(database: Database, database_settings: Settings) -> None:
    before = publish(database, 1)
    execute(database, "INSERT INTO job_run (job, host, pid) VALUES ('embed', 'gone', 7)")
    status(database_settings)
    again = status(database_settings)
    assert [job.alive for job in again.running] == [False]  # not even marked as killed
    assert max(job.run for job in again.jobs) == before


def test_another_schema(
    new_database: Callable[[bool], URL], tmp_path: Path, database: Database
) -> None:
    empty = SecretStr(str(new_database(False)))
    settings = Settings(home=tmp_path / "var", database_url=empty)
    with pytest.raises(UserError, match=r"its schema is missing \(version none, .* db upgrade"):
        status(settings)
    execute(database, "UPDATE alembic_version SET version_num = '0007'")
    old = settings.model_copy(update={"database_url": SecretStr(str(database.url))})
    with pytest.raises(UserError, match=r"its schema is behind \(version 0007, "):
        status(old)


def test_nothing_here_yet(tmp_path: Path, command: Run) -> None:
    home = tmp_path / "var"
    ended = command("status", variables=environment(home, None))
    assert ended.code == 6
    assert "nothing here yet" in ended.out
    assert ended.err.startswith("error: no run is published")
    as_json = command("status", "--json", variables=environment(home, None))
    assert as_json.code == 6
    report = json.loads(as_json.out)
    assert (report["published"], report["database"]) == (None, None)
    assert not home.exists()


def test_a_database_that_is_away(tmp_path: Path, command: Run) -> None:
    away = "postgresql://recjob:s3cret@localhost:1/shop"
    settings = Settings(home=tmp_path / "var", database_url=SecretStr(away))
    with pytest.raises(TemporaryError):
        status(settings)
    message = command("status", variables=environment(tmp_path / "var", away)).error(5)
    assert "s3cret" not in message


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_fits(
    width: int,
    database: Database,
    database_settings: Settings,
    command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(database, 1)
    end(database, "train-autoencoder", "failed", "the disk is full: " + "/a/long/path" * 20)
    execute(database, MODEL, "student-20261122-020000-abcdef", "student", "{}", "active", 5)
    monkeypatch.setenv("COLUMNS", str(width))
    url = str(database.url)
    ended = command("status", variables=environment(database_settings.home, url))
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.splitlines())) <= width
    for part in ("run 1, 1.0 h old", "9 lists: 6 warm, 2 cold, 1 stranger", "the disk is full"):
        assert part in ended.out
    assert "student-20261122-020000-abcdef" in ended.out  # whole, to be copied
    assert "train-autoencoder    2  failed" in ended.out


def test_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1234")
    (tmp_path / "y").write_bytes(b"12")
    assert folder_bytes(tmp_path) == 6
    assert folder_bytes(tmp_path / "nowhere") is None
