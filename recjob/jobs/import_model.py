"""Job `models import FOLDER`: a model trained without a database into the registry."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from recjob.catalog.hashing import file_sha256
from recjob.errors import DataError, NotFoundError
from recjob.inference.model_files import (
    AUTOENCODER_FILES,
    RECOMMENDER_FILES,
    load_autoencoder,
    load_recommender,
    read_user_ids,
    write_without_users,
)
from recjob.jobs.model_record import RECORD_FILE, ModelRecord, read_record
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.training_site import check_image_size
from recjob.jobs.workspace import register_trained, what_next
from recjob.store.artifacts import Role
from recjob.store.forgotten import forgotten_among
from recjob.store.models import ModelRow, Status, activate, model

FILES: Final[dict[Role, tuple[str, ...]]] = {
    "autoencoder": (*AUTOENCODER_FILES, RECORD_FILE),
    "teacher": (*RECOMMENDER_FILES, RECORD_FILE),
    "student": (*RECOMMENDER_FILES, RECORD_FILE),
}
"""What is taken from a model's folder."""


class ImportedModel(JobResult):
    """The model that is registered now."""

    model: str
    role: Role
    parent: str | None
    """The student's teacher, where the registry knows it."""
    new: bool
    """False where the registry had it already."""
    forgotten: int
    """Users whose vectors were left out: they asked to be forgotten."""
    status: Status
    next: str
    """What becomes of it, and what to do."""


def import_model(context: JobContext, folder: Path) -> ImportedModel:
    """Register a model's folder: a student as a candidate for the gate, another in use at once.

    The same folder twice is registered once; a student keeps its status then. A student whose
    teacher is not in the registry is registered without it.

    Raises DataError where the folder holds no model that can be read, or another one under an id
    that is taken, or one trained on pictures of another size than the settings'.
    """
    with context.stage("check"):
        record = read_record(folder)
        _check_loads(context, record, folder)
        context.freeze(model=record.model_id)
        registered = _registered(context, record.model_id)
        forgotten = _forgotten(context, record, folder)
    with context.stage("register") as stage:
        if registered is None:
            registered = _register(context, record, folder, forgotten)
            new = True
        else:
            _check_same(context, registered, folder, forgotten)
            if registered.role != "student":
                with context.database.begin() as connection:
                    registered = activate(connection, record.model_id)
            new = False
        stage.items = len(FILES[record.role])
    return ImportedModel(
        model=registered.model_id,
        role=registered.role,
        parent=registered.parent,
        new=new,
        forgotten=len(forgotten),
        status=registered.status,
        next=what_next(registered),
    )


def _check_loads(context: JobContext, record: ModelRecord, folder: Path) -> None:
    if record.role == "autoencoder":
        load_autoencoder(folder)
    else:
        stored = load_recommender(folder)
        check_image_size(str(folder), record.role, stored, context.settings)


def _registered(context: JobContext, model_id: str) -> ModelRow | None:
    with context.database.connect() as connection:
        try:
            return model(connection, model_id)
        except NotFoundError:
            return None


def _forgotten(context: JobContext, record: ModelRecord, folder: Path) -> frozenset[str]:
    """Users of the model in `folder` who are forgotten."""
    if record.role == "autoencoder":
        return frozenset()
    with context.database.connect() as connection:
        return forgotten_among(connection, read_user_ids(folder))


def _register(
    context: JobContext, record: ModelRecord, folder: Path, forgotten: frozenset[str]
) -> ModelRow:
    # Files without a row are what an import left that was killed between the two.
    context.artifacts.remove_model(record.model_id)
    with context.artifacts.write_model(record.model_id) as target:
        for name in FILES[record.role]:
            shutil.copyfile(folder / name, target / name)
        if forgotten:
            write_without_users(folder, target, forgotten)
    if record.parent is not None and _registered(context, record.parent) is None:
        record = record.model_copy(update={"parent": None})
    return register_trained(context, record)


def _check_same(
    context: JobContext, registered: ModelRow, folder: Path, forgotten: frozenset[str]
) -> None:
    own = context.artifacts.model(registered.model_id, registered.sha256)
    with tempfile.TemporaryDirectory(prefix="recjob-import-") as scratch:
        without = Path(scratch)
        if forgotten:
            write_without_users(folder, without, forgotten)
        for name in FILES[registered.role]:
            given = without / name if (without / name).is_file() else folder / name
            if not (own / name).is_file() or file_sha256(own / name) != file_sha256(given):
                raise DataError(
                    f"{folder / name}: differs from that of the registered model "
                    f"{registered.model_id}, and a model never changes; train it anew"
                )
