"""`status`: how it stands, in one look; nothing is changed."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from recjob.errors import NotFoundError, SettingsError, UserError
from recjob.jobs.home import ARTIFACTS_FOLDER, IMAGES_FOLDER
from recjob.jobs.schedule_entries import schedule_entries
from recjob.jobs.status_report import (
    CatalogLine,
    Disk,
    EndedJob,
    GateDecision,
    HeldRun,
    ModelLine,
    NextRun,
    PublishedRun,
    Report,
    RunningJob,
    Schedule,
)
from recjob.settings import Settings
from recjob.store.database import Database, read_only_database
from recjob.store.models import ModelRow, list_models
from recjob.store.overview import (
    JobRow,
    catalog_sizes,
    database_bytes,
    database_clock,
    last_decision,
    last_ended,
    may_select,
    newest_held,
    published_row,
    running_now,
    scheduler_lock,
)
from recjob.store.run_lists import KINDS
from recjob.store.schedule_runs import last_schedule_rows
from recjob.store.schema import SchemaState, code_version, schema_state, schema_version

SECONDS_PER_HOUR: Final = 3600.0


def status(settings: Settings) -> Report:
    """How it stands. Raises UserError where the schema is not this code's, TemporaryError where
    the database does not answer."""
    try:
        with read_only_database(settings) as database, database.connect() as connection:
            _require_schema(database, connection)
            return _report(settings, database, connection)
    except NotFoundError as nothing:
        return _nothing(settings, str(nothing))


def _nothing(settings: Settings, note: str) -> Report:
    now = datetime.now(UTC)
    return Report(
        at=now.replace(microsecond=0),
        stale="no run is published: there is no catalog yet",
        note=note,
        database=None,
        embedded=settings.database_url is None,
        schema_version=None,
        published=None,
        held=None,
        running=(),
        jobs=(),
        schedule=_schedule(settings, None, now),
        models=(),
        gate=None,
        catalog=None,
        disk=_disk(settings, None),
    )


def _require_schema(database: Database, connection: Connection) -> None:
    state = schema_state(connection)
    if state is SchemaState.CURRENT:
        return
    found = schema_version(connection) or "none"
    mend = "run `python cli.py db upgrade`"
    if state is SchemaState.UNKNOWN:
        mend = "use the code that made it, or a newer one"
    raise UserError(
        f"database {database.name}: its schema is {state} (version {found}, this code has "
        f"{code_version()}); {mend}"
    )


def _report(settings: Settings, database: Database, connection: Connection) -> Report:
    now = database_clock(connection)
    published = _published(connection, now)
    held = newest_held(connection)
    decision = last_decision(connection)
    sizes = catalog_sizes(connection) if may_select(connection, "interaction") else None
    return Report(
        at=now.astimezone(UTC).replace(microsecond=0),
        stale=_stale(published, settings.status.stale_hours),
        note=None,
        database=database.name,
        embedded=database.embedded,
        schema_version=schema_version(connection),
        published=published,
        held=None if held is None else HeldRun(run=held[0], reason=held[1]),
        running=tuple(_running(row, now) for row in running_now(connection)),
        jobs=tuple(_ended(row, now) for row in last_ended(connection)),
        schedule=_schedule(settings, connection, now),
        models=tuple(_models(list_models(connection), now)),
        gate=None
        if decision is None
        else GateDecision(
            model=decision.model_id,
            decision=decision.decision,
            decided=_second(decision.decided),
            against=decision.against,
            reason=decision.reason,
        ),
        catalog=None
        if sizes is None
        else CatalogLine(
            items_available=sizes.items.available,
            items_unavailable=sizes.items.unavailable,
            items_quarantined=sizes.items.quarantined,
            outfits=sizes.outfits,
            users=sizes.users,
            interactions=sizes.interactions,
            estimated=sizes.estimated,
        ),
        disk=_disk(settings, database_bytes(connection)),
    )


def _published(connection: Connection, now: datetime) -> PublishedRun | None:
    row = published_row(connection)
    if row is None:
        return None
    users = row.statistics.get("users", {})  # in no order: Postgres keeps none
    return PublishedRun(
        run=row.run_id,
        written=_second(row.written),
        age_hours=_hours(row.written, now),
        model=row.statistics.get("model"),
        lists=row.statistics.get("lists"),
        users={kind: users[kind] for kind in KINDS if kind in users},
    )


def _stale(published: PublishedRun | None, limit_hours: float) -> str | None:
    if published is None:
        return "no run is published; run `python cli.py nightly-recommend`"
    if published.age_hours <= limit_hours:
        return None
    return (
        f"the published run {published.run} is {published.age_hours:.1f} hours old, and "
        f"status.stale_hours is {limit_hours:g}; run `python cli.py nightly-recommend`"
    )


def _running(row: JobRow, now: datetime) -> RunningJob:
    return RunningJob(
        job=row.job,
        run=row.run_id,
        stage=row.stage,
        started=_second(row.started),
        seconds=(now - row.started).total_seconds(),
        heartbeat_seconds=(now - row.heartbeat).total_seconds(),
        host=row.host,
        pid=row.pid,
        alive=row.alive,
    )


def _ended(row: JobRow, now: datetime) -> EndedJob:
    assert row.ended is not None  # a constraint of the table
    return EndedJob(
        job=row.job,
        run=row.run_id,
        outcome=row.outcome,
        ended=_second(row.ended),
        age_hours=_hours(row.ended, now),
        seconds=(row.ended - row.started).total_seconds(),
        error=row.error,
    )


def _models(rows: list[ModelRow], now: datetime) -> list[ModelLine]:
    """The active models, and candidates that came after them; `rows` begin with the newest."""
    active = {row.role: row.created for row in rows if row.status == "active"}
    shown = [
        row
        for row in rows
        if row.status == "active"
        or (
            row.status == "candidate" and (row.role not in active or row.created > active[row.role])
        )
    ]
    return [
        ModelLine(
            role=row.role,
            model=row.model_id,
            status=row.status,
            created=_second(row.created),
            age_hours=_hours(row.created, now),
            parent=row.parent,
            validation=_numbers(row.metrics.get("validation")),
        )
        for row in shown
    ]


def _numbers(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict):
        return {}
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _schedule(settings: Settings, connection: Connection | None, now: datetime) -> Schedule:
    leader = None if connection is None else scheduler_lock(connection)
    rows = {} if connection is None else last_schedule_rows(connection)
    who = None
    if leader is not None:
        since = "" if leader.since is None else f" since {_second(leader.since):%F %R} UTC"
        who = f"{leader.user or 'a scheduler'} at {leader.client or 'this machine'}{since}"
    try:
        entries = schedule_entries(settings)
    except SettingsError as error:
        return Schedule(leader=who, entries=(), error=str(error))
    return Schedule(
        leader=who,
        entries=tuple(
            NextRun(
                entry=entry.name,
                next=None if entry.cron is None else entry.cron.next(now),
                last=None if row is None else row.slot.astimezone(UTC),
                outcome=None if row is None else row.outcome,
                reason=None if row is None else row.reason,
            )
            for entry in entries
            for row in [rows.get(entry.name)]
        ),
        error=None,
    )


def _disk(settings: Settings, database: int | None) -> Disk:
    there = settings.home.is_dir()
    return Disk(
        home=str(settings.home),
        database=database,
        artifacts=folder_bytes(settings.home / ARTIFACTS_FOLDER),
        pictures=folder_bytes(settings.home / IMAGES_FOLDER),
        free=shutil.disk_usage(settings.home).free if there else None,
    )


def folder_bytes(folder: Path) -> int | None:
    """What the files under a folder hold; None where there is no such folder."""
    if not folder.is_dir():
        return None
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:  # a job at work has just removed it
                continue
    return total


def _second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _hours(moment: datetime, now: datetime) -> float:
    return (now - moment).total_seconds() / SECONDS_PER_HOUR
