"""What `doctor` finds where something is wrong, and that it goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from pydantic import SecretStr
from sqlalchemy import URL

from recjob.errors import DataError
from recjob.jobs import doctor_database, doctor_machine, doctor_metrics
from recjob.jobs.diagnosis import Check, examined, well
from recjob.jobs.doctor import diagnose
from recjob.jobs.doctor_artifacts import artifacts, pictures
from recjob.jobs.doctor_database import Session
from recjob.settings import MetricsSettings, ScheduleSettings, Settings
from recjob.store.artifacts import ArtifactFolder
from recjob.store.database import Database, read_only_database
from recjob.store.models import activate, register
from tests.command_line import Run, environment


def execute(database: Database, query: str, *values: object) -> None:
    with psycopg.connect(str(database.url).replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(query.encode(), values or None)


@pytest.fixture
def session(database: Database, database_settings: Settings) -> Iterator[Session]:
    """A fresh database, opened as `doctor` opens it."""
    with read_only_database(database_settings) as opened, opened.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        yield Session.begin(database_settings, opened, alone)


def by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_fresh_database(database: Database, database_settings: Settings) -> None:
    settings = environment(database_settings.home, str(database.url))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setenv("RECJOB_METRICS__SINK", "none")
        found = by_name(diagnose(None).checks)
        quick = by_name(diagnose(None, quick=True).checks)
    assert {name for name, check in found.items() if check.outcome == "failed"} == set()
    expected = {"python", "home", "gpu", "faiss", "database", "migrations", "clock", "artifacts"}
    assert expected <= set(found)
    assert set(found) - set(quick) == {"artifacts"}
    assert found["migrations"].found.startswith("version ")
    assert found["pgvector"].found.startswith("0.")
    assert found["roles"].outcome == "warning"  # the tests' user is an administrator
    assert all(check.fix for check in found.values() if check.outcome != "ok")
    assert not database_settings.home.exists()


def test_a_check_that_breaks_is_a_failed_one_and_the_others_go_on() -> None:
    def broken(error: Exception) -> Callable[[], Any]:
        def check() -> None:
            raise error

        return check

    checks = examined(
        [
            ("ours", broken(DataError("x.csv: is damaged; import again"))),
            ("files", broken(PermissionError(13, "Permission denied", "/x"))),
            ("driver", broken(psycopg.OperationalError("server closed\nthe connection"))),
            ("library", broken(ImportError("libcuda.so"))),
            ("url", broken(ValueError("not postgresql://me:s3cret@host/shop"))),
            ("nothing", lambda: None),
            ("last", lambda: well("fine")),
        ]
    )
    assert [check.name for check in checks] == ["ours", "files", "driver", "library", "url", "last"]
    assert [check.outcome for check in checks] == ["failed"] * 5 + ["ok"]
    assert (checks[0].found, checks[0].fix) == ("x.csv: is damaged", "import again")
    assert checks[2].found == "OperationalError: server closed"
    assert "s3cret" not in checks[4].found
    with pytest.raises(ZeroDivisionError):  # a fault of doctor's own is not hidden
        examined([("ours", broken(ZeroDivisionError()))])


def model(session: Session, database: Database) -> Path:
    """An active student with two files; its folder."""
    folder = ArtifactFolder(session.settings.home / "artifacts")
    with folder.write_model("student-1") as files:
        (files / "model.safetensors").write_bytes(b"weights" * 1000)
        (files / "model.json").write_text("{}")
    with database.begin() as connection:
        register(
            connection,
            model_id="student-1",
            role="student",
            parent=None,
            settings={},
            data_fingerprint="f",
            metrics={},
            sha256=folder.model_sha256("student-1"),
            seed=0,
            code_version="1",
        )
        activate(connection, "student-1")
    return session.settings.home / "artifacts" / "models" / "student-1"


def test_damaged_and_missing_artifacts_are_found(session: Session, database: Database) -> None:
    folder = model(session, database)
    assert artifacts(session).found.startswith("2 files of 1 active models as registered")
    (folder / "model.safetensors").write_bytes(b"weightz" * 1000)
    damaged = artifacts(session)
    assert damaged.outcome == "failed"
    assert str(folder / "model.safetensors") in damaged.found
    (folder / "model.safetensors").unlink()
    missing = artifacts(session)
    assert (missing.outcome, missing.fix is not None) == ("failed", True)
    assert missing.found == f"missing: {folder / 'model.safetensors'}"
    (folder / "manifest.json").write_text("{}")
    assert "manifest.json" in artifacts(session).found
    shared = session.settings.model_copy(update={"artifacts_url": "s3://models"})
    (folder / "manifest.json").unlink()
    elsewhere = artifacts(Session(shared, session.database, session.connection, session.state))
    assert elsewhere.outcome == "ok"
    assert not list(folder.glob("*.safetensors"))


def test_pictures_that_are_not_packed(session: Session, database: Database) -> None:
    assert pictures(session).found == "no item has a picture yet"
    execute(
        database,
        "INSERT INTO item (item_id, category, image, image_sha256) "
        "VALUES ('shirt', 'top', 'shirt.jpg', repeat('a', 64))",
    )
    missing = pictures(session)
    assert (missing.outcome, missing.fix is None) == ("failed", False)
    assert not session.settings.home.exists()
    folder = session.settings.home / "images" / "224"
    folder.mkdir(parents=True)
    (folder / "pixels.u8").touch()
    (folder / "index.txt").write_text("recjob packed pictures 1, side 224\n")
    [check] = examined([("pictures", lambda: pictures(session))])
    assert "1 of 1 pictures are missing" in check.found
    assert check.fix == "import the items again"


def test_a_clock_that_is_wrong(session: Session, database: Database) -> None:
    assert doctor_database.clock(session).outcome == "ok"
    execute(database, "CREATE SCHEMA fake")
    execute(
        database,
        "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
        "AS 'SELECT now() - interval ''1 hour'''",
    )
    execute(database, "GRANT USAGE ON SCHEMA fake TO PUBLIC")
    session.connection.exec_driver_sql("SET search_path = fake, pg_catalog, public")
    late = doctor_database.clock(session)
    assert (late.outcome, late.found) == (
        "failed",
        "3600 s between this machine and the database",
    )


def test_orphaned_runs_and_locks(session: Session, database: Database) -> None:
    assert doctor_database.orphaned_runs(session).found == "none"
    assert doctor_database.locks(session).found == "none is held"
    execute(database, "INSERT INTO job_run (job, host, pid) VALUES ('embed', 'gone', 7)")
    orphan = doctor_database.orphaned_runs(session)
    assert orphan.outcome == "warning"
    assert "embed (run 1, pid 7 on gone)" in orphan.found
    with psycopg.connect(str(database.url).replace("+psycopg", ""), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(7301, 1)")
        stranger = doctor_database.locks(session)
        assert stranger.outcome == "warning"
        assert "catalog by server process" in stranger.found
        other.execute("SELECT pg_advisory_lock(7302, 1)")
        assert doctor_database.locks(session).found == "embed (run 1) writes catalog"
        assert doctor_database.orphaned_runs(session).found == "none"


def test_a_user_who_may_not_write(session: Session, database: Database) -> None:
    execute(database, "DROP ROLE IF EXISTS doctor_watcher")
    execute(database, "CREATE USER doctor_watcher IN ROLE recjob_monitor")
    try:
        url = SecretStr(str(database.url.set(username="doctor_watcher")))
        settings = session.settings.model_copy(update={"database_url": url})
        with read_only_database(settings) as opened, opened.connect() as connection:
            found = doctor_database.roles(Session.begin(settings, opened, connection))
    finally:
        execute(database, "DROP ROLE doctor_watcher")
    assert (found.outcome, found.fix) == ("failed", "GRANT recjob_writer TO doctor_watcher")


def test_a_schema_that_is_missing(
    new_database: Callable[[bool], URL], tmp_path: Path, command: Run
) -> None:
    variables = environment(tmp_path / "var", str(new_database(False)))
    ended = command("doctor", "--json", "--quick", variables=variables)
    checks = {check["name"]: check for check in json.loads(ended.out)["checks"]}
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "migrations" in ended.err
    assert checks["migrations"]["outcome"] == "failed"
    assert "db upgrade" in checks["migrations"]["fix"]
    assert "locks" not in checks  # there is no table to ask


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("metric", "outcome"), [("recjob_build_info", "ok"), ("another_program", "failed")]
)
def test_the_port_of_the_metrics(free_port: int, metric: str, outcome: str) -> None:
    settings = Settings(metrics=MetricsSettings(port=free_port))
    assert doctor_metrics.sink(settings, False).found.endswith("`schedule` serves it")
    assert doctor_metrics.sink(settings, True).outcome == "warning"
    registry = CollectorRegistry()
    Gauge(metric, "whose it is", registry=registry)
    server, thread = start_http_server(free_port, "127.0.0.1", registry)
    try:
        assert doctor_metrics.sink(settings, True).outcome == outcome
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        settings = Settings(metrics=MetricsSettings(port=holder.getsockname()[1]))
        taken = doctor_metrics.sink(settings, False)
    assert (taken.outcome, taken.fix) == ("failed", "set metrics.port to a free one")


def test_other_ways_of_the_metrics(tmp_path: Path, free_port: int) -> None:
    def sink(**options: Any) -> str:
        settings = Settings(home=tmp_path / "var", metrics=MetricsSettings(**options))
        return doctor_metrics.sink(settings, False).outcome

    assert sink(sink="none") == "ok"
    assert sink(sink="textfile") == "ok"
    (tmp_path / "file").touch()
    assert sink(sink="textfile", textfile_folder=str(tmp_path / "file" / "below")) == "failed"
    url = f"http://me:s3cret@127.0.0.1:{free_port}"
    away = doctor_metrics.sink(
        Settings(metrics=MetricsSettings(sink="pushgateway", pushgateway=url)), False
    )
    assert away.outcome == "failed"
    assert "s3cret" not in away.found
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()
        assert sink(sink="pushgateway", pushgateway=url) == "ok"


def test_this_machine(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var")
    assert doctor_machine.home_folder(settings).outcome == "ok"
    assert not (tmp_path / "var").exists()
    (tmp_path / "var").touch()
    assert doctor_machine.home_folder(settings).outcome == "failed"
    status = settings.status.model_copy(update={"min_free_gigabytes": 1e9})
    full = doctor_machine.disk_space(settings.model_copy(update={"status": status}))
    assert (full.outcome, full.fix) == ("failed", "make room: home needs 1e+09 GB")
    zone = settings.model_copy(update={"schedule": ScheduleSettings(timezone="Mars/Base")})
    assert "Mars/Base" in doctor_machine.schedule_settings(zone).found
    assert doctor_machine.ray(settings) is None
    assert "Python 3" in doctor_machine.python_packages().found


def test_settings_that_are_wrong(tmp_path: Path, command: Run) -> None:
    (tmp_path / "recjob.toml").write_text("[teacher]\nepoch = 3\n")
    ended = command("doctor", "--json")
    assert ended.code == 1
    settings = json.loads(ended.out)["checks"][-1]
    assert (settings["name"], settings["outcome"]) == ("settings", "failed")
    assert "teacher.epoch" in settings["found"]
