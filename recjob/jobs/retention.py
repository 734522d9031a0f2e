"""Job `retention`: old ledger rows, files of models that nobody will need, and old logs go.

First the database says what is gone, then the files go; what a kill leaves the next one removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from recjob.jobs.home import ARTIFACTS_FOLDER, INDEXES_FOLDER, LOGS_FOLDER
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.settings import RetentionSettings, Settings
from recjob.store.artifacts import MODELS, ArtifactFolder, Role
from recjob.store.database import open_database
from recjob.store.embeddings import drop_unused_embeddings
from recjob.store.ledger import hold_lease
from recjob.store.ledger_totals import fold_runs
from recjob.store.models import lock_role, mark_files_removed
from recjob.store.retention import drop_schedule_rows, models_without_files, old_models


class Removed(BaseModel):
    """What is removed, or would be."""

    model_config = ConfigDict(frozen=True)

    ledger_runs: int
    """Runs that leave the ledger; what they counted stays in its totals."""
    schedule_rows: int
    models: tuple[str, ...]
    """Models whose files go, and with them their engines, vectors and indexes."""
    vectors: int
    """Rows of vectors in Postgres, of retired models that no kept run was scored with."""
    logs: int
    bytes: int
    """Of files on this machine."""


class RetentionResult(JobResult, Removed):
    """What was removed."""


@dataclass(frozen=True)
class _Rows:
    """What the database lost."""

    ledger_runs: int
    schedule_rows: int
    models: tuple[str, ...]
    vectors: int


def retention(context: JobContext) -> RetentionResult:
    """Remove what is older than [retention] says."""
    settings = context.settings
    with context.stage("database") as stage, context.database.begin() as connection:
        rows = _drop_rows(connection, settings.retention)
        gone = models_without_files(connection)
        hold_lease(connection, context.run_id)
        stage.items = rows.ledger_runs + rows.schedule_rows + rows.vectors
    with context.stage("files") as stage:
        folders = _leftovers(context.artifacts, gone)
        logs = _old_logs(settings)
        freed = _bytes(context.artifacts.root, folders) + _size(logs)
        for folder in folders:
            context.artifacts.remove_folder(folder)
        _remove_logs(settings, logs)
        stage.items = len(folders) + len(logs)
    return RetentionResult(**vars(rows), logs=len(logs), bytes=freed)


def plan_retention(settings: Settings) -> Removed:
    """What `retention` would remove now; nothing is changed, and no run is recorded."""
    artifacts = ArtifactFolder(settings.home / ARTIFACTS_FOLDER, settings.artifacts_url)
    with open_database(settings) as database, database.connect() as connection:
        rows = _drop_rows(connection, settings.retention)  # never committed
        folders = _leftovers(artifacts, models_without_files(connection))
        connection.rollback()
    logs = _old_logs(settings)
    freed = _bytes(artifacts.root, folders) + _size(logs)
    return Removed(**vars(rows), logs=len(logs), bytes=freed)


def _drop_rows(connection: Connection, options: RetentionSettings) -> _Rows:
    for role in get_args(Role):
        lock_role(connection, role)
    now = datetime.now(UTC)
    before = now - timedelta(days=options.ledger_days)
    runs = fold_runs(connection, before)
    scheduled = drop_schedule_rows(connection, before)
    old = old_models(
        connection, options.retired_models, now - timedelta(days=options.candidate_days)
    )
    for model in old:
        mark_files_removed(connection, model.model_id)
    vectors = drop_unused_embeddings(connection)
    return _Rows(runs, scheduled, tuple(model.model_id for model in old), vectors)


def _leftovers(artifacts: ArtifactFolder, gone: list[str]) -> list[str]:
    """Folders of models that shall have no files any more, and have some."""
    return [
        f"{folder}/{model_id}"
        for folder in (MODELS, INDEXES_FOLDER)
        for model_id in sorted(artifacts.folders(folder) & set(gone))
    ]


def _old_logs(settings: Settings) -> list[Path]:
    limit = (datetime.now(UTC) - timedelta(days=settings.retention.log_days)).timestamp()
    return [
        path
        for path in sorted((settings.home / LOGS_FOLDER).rglob("*"))
        if path.is_file() and path.stat().st_mtime < limit
    ]


def _remove_logs(settings: Settings, logs: list[Path]) -> None:
    for path in logs:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in logs} - {settings.home / LOGS_FOLDER}:
        if not any(folder.iterdir()):
            folder.rmdir()


def _bytes(root: Path, folders: list[str]) -> int:
    return sum(_size(_files(root / folder)) for folder in folders)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _size(files: Iterator[Path] | list[Path]) -> int:
    return sum(path.stat().st_size for path in files)
