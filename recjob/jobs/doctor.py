"""`doctor`: looks at everything that a night needs, changes nothing, and says how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from recjob.errors import NotFoundError, SettingsError
from recjob.jobs import doctor_artifacts, doctor_database, doctor_machine, doctor_metrics
from recjob.jobs.diagnosis import (
    FAULTS,
    Check,
    Diagnosis,
    Finding,
    examined,
    failure,
    first_line,
    warning,
    well,
)
from recjob.jobs.doctor_database import Session
from recjob.settings import Settings, load_settings
from recjob.store.database import read_only_database
from recjob.store.overview import scheduler_lock
from recjob.store.schema import SchemaState, schema_state

Named = tuple[str, Callable[[], Finding | None]]
MEND_DATABASE: Final = (
    "start the server, or correct RECJOB_DATABASE_URL; what lies in the database was not looked at"
)


def diagnose(file: Path | None, *, quick: bool = False) -> Diagnosis:
    """Check everything. `quick` leaves the sha256 of the artifacts out.

    Nothing is raised for what is wrong: each check says it, and the others go on.
    """
    checks = examined([("python", doctor_machine.python_packages)])
    try:
        settings = load_settings(file)
    except SettingsError as error:
        broken = failure(str(error), "correct it; the other checks need the settings")
        checks.append(Check(name="settings", **broken.model_dump()))
        return Diagnosis(checks=tuple(checks))
    checks += examined(_on_this_machine(settings, file))
    checks += _on_the_database(settings, quick)
    return Diagnosis(checks=tuple(checks))


def _on_this_machine(settings: Settings, file: Path | None) -> list[Named]:
    machine = doctor_machine
    return [
        ("settings", lambda: well(str(file) if file else "defaults, recjob.toml, environment")),
        ("home", lambda: machine.home_folder(settings)),
        ("disk", lambda: machine.disk_space(settings)),
        ("gpu", lambda: machine.gpu(settings)),
        ("compute", lambda: machine.precision(settings)),
        ("tensorrt", machine.tensorrt),
        ("faiss", machine.faiss),
        ("onnx runtime", machine.onnx_runtime),
        ("ray", lambda: machine.ray(settings)),
        ("schedule", lambda: machine.schedule_settings(settings)),
    ]


def _on_the_database(settings: Settings, quick: bool) -> list[Check]:
    checks: list[Check] = []
    try:
        with read_only_database(settings) as database, database.connect() as connection:
            # Each query stands alone, so that one that fails leaves the next one undisturbed.
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            session = Session.begin(settings, database, connection)
            checks += examined(_of_the_server(session))
            if schema_state(connection) is SchemaState.CURRENT:
                checks += examined(_of_the_data(session, quick))
        return checks
    except NotFoundError as nothing:
        broken = warning(str(nothing), "run `python cli.py import tables FOLDER` (docs/data.md)")
    except FAULTS as error:
        broken = failure(first_line(error), MEND_DATABASE)
    there = [] if checks else examined([("metrics", lambda: doctor_metrics.sink(settings, False))])
    return [Check(name="database", **broken.model_dump()), *checks, *there]


def _of_the_server(session: Session) -> list[Named]:
    database = doctor_database
    return [
        ("database", lambda: database.server(session)),
        ("migrations", lambda: database.schema(session)),
        ("pgvector", lambda: database.pgvector(session)),
        ("roles", lambda: database.roles(session)),
        ("tls", lambda: database.tls(session)),
        ("clock", lambda: database.clock(session)),
    ]


def _of_the_data(session: Session, quick: bool) -> list[Named]:
    database, files = doctor_database, doctor_artifacts
    found: list[Named] = [
        ("orphaned runs", lambda: database.orphaned_runs(session)),
        ("locks", lambda: database.locks(session)),
        ("scheduler", lambda: database.scheduler(session)),
        (
            "metrics",
            lambda: doctor_metrics.sink(
                session.settings, scheduler_lock(session.connection) is not None
            ),
        ),
        ("pictures", lambda: files.pictures(session)),
        ("engine", lambda: files.engine(session)),
        ("index", lambda: files.index(session)),
    ]
    return found if quick else [*found, ("artifacts", lambda: files.artifacts(session))]
