"""What files hold of a user who is to be forgotten: models, checkpoints, shards, pages, logs."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from recjob.catalog.disk import sync_file
from recjob.errors import NotFoundError
from recjob.inference.model_files import USER_IDS_FILE, USERS_FILE, write_without_users
from recjob.jobs.home import LOGS_FOLDER, REPORT_FOLDER
from recjob.jobs.night_shards import WORK
from recjob.jobs.runner import JobContext
from recjob.jobs.training_site import checkpoint_folder
from recjob.settings import Settings
from recjob.store.artifacts import MODELS, Role
from recjob.store.forgotten import forgotten_among
from recjob.store.mentions import Mentions
from recjob.store.models import ModelRow
from recjob.store.work_files import WorkFolder

USER_FILES: Final = (USER_IDS_FILE, USERS_FILE)
"""The files of a model that hold users."""
LEARNT_FROM_USERS: Final[tuple[Role, ...]] = ("teacher", "student")
"""Roles whose trainings hold users' vectors."""


def forgotten_in(context: JobContext, model_id: str, user_id: str) -> frozenset[str]:
    """Users of a model who are forgotten, or about to be: `user_id`."""
    data = context.artifacts.peek(model_id, USER_IDS_FILE)
    if data is None:
        return frozenset()
    try:
        user_ids = json.loads(data)
    except ValueError:
        user_ids = []  # a damaged file: preparing another in its place says so
    known = [user for user in user_ids if isinstance(user, str)]
    with context.database.connect() as connection:
        return forgotten_among(connection, known) | ({user_id} & set(known))


def prepare_model(context: JobContext, row: ModelRow, leave_out: Collection[str]) -> str | None:
    """Prepare a model's files without some users; the sha256 to register, None: no files."""

    def write(source: Path, target: Path) -> None:
        write_without_users(source, target, leave_out)

    try:
        return context.artifacts.prepare_files(row.model_id, row.sha256, USER_FILES, write)
    except NotFoundError:
        return None


def settle_model(context: JobContext, model_id: str, sha256: str) -> bool:
    """Bring a model's files to what is registered; whether there was anything to do.

    An outdated copy of the shared storage in this folder counts, too. Autoencoders have no users.
    """
    if context.artifacts.peek(model_id, USER_IDS_FILE) is None:
        return False
    try:
        return context.artifacts.settle(model_id, sha256, USER_FILES)
    except NotFoundError:
        return False


def drop_unregistered(context: JobContext, registered: Collection[str], user_id: str) -> list[str]:
    """Remove models that hold a forgotten user and that no registry knows; their ids.

    A killed training or import left them, and nothing can load them.
    """
    found = sorted(context.artifacts.folders(MODELS) - set(registered))
    known = [model_id for model_id in found if forgotten_in(context, model_id, user_id)]
    for model_id in known:
        context.artifacts.remove_model(model_id)
    return known


def drop_checkpoints(settings: Settings) -> list[Role]:
    """Remove what trainings that were cut short saved; of which roles there was any.

    The user's vectors and their moments are rows of the state. Without the user it is the state
    of another training, which could not go on from it anyway.
    """
    dropped = []
    for role in LEARNT_FROM_USERS:
        folder = checkpoint_folder(settings, role)
        if folder.path.exists():
            folder.remove()
            dropped.append(role)
    return dropped


def drop_night(context: JobContext) -> bool:
    """Remove the finished shards of a night that was cut short; whether there were any.

    Without the user the night has another fingerprint, and would not use them.
    """
    folder = WorkFolder(context.artifacts.root, context.settings.artifacts_url, WORK)
    there = bool(folder.names())
    folder.remove()
    return there


def drop_report(settings: Settings, mentions: Mentions) -> bool:
    """Remove the page where it shows the user; whether it did."""
    folder = settings.home / REPORT_FOLDER
    shown = False
    for page in sorted(folder.glob("*")) + sorted(folder.glob(".*")):
        if page.is_file() and mentions.within(_read(page)):
            page.unlink()
            shown = True
    return shown


def redact_logs(settings: Settings, mentions: Mentions) -> int:
    """Take the user out of the logs of scheduled jobs; in how many files there was anything."""
    changed = 0
    for path in sorted((settings.home / LOGS_FOLDER).rglob("*")):
        if not path.is_file():
            continue
        written = _read(path)
        if mentions.within(written):
            new = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                new.write_text(mentions.without(written), "utf-8", "surrogateescape", "")
                sync_file(new)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
            changed += 1
    return changed


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")
