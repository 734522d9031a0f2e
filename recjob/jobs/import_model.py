"""Job `models import FOLDER`: a model trained without a database into the registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from recjob.catalog.hashing import file_sha256
from recjob.errors import DataError, NotFoundError
from recjob.inference.model_files import (
    AUTOENCODER_FILES,
    RECOMMENDER_FILES,
    load_autoencoder,
    load_recommender,
)
from recjob.jobs.model_record import RECORD_FILE, ModelRecord, read_record
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.training_site import check_image_size
from recjob.jobs.workspace import register_active
from recjob.store.artifacts import Role
from recjob.store.models import ModelRow, activate, model

FILES: Final[dict[Role, tuple[str, ...]]] = {
    "autoencoder": (*AUTOENCODER_FILES, RECORD_FILE),
    "teacher": (*RECOMMENDER_FILES, RECORD_FILE),
    "student": (*RECOMMENDER_FILES, RECORD_FILE),
}
"""What is taken from a model's folder."""


class ImportedModel(JobResult):
    """The model that is in use now."""

    model: str
    role: Role
    parent: str | None
    """The student's teacher, where the registry knows it."""
    new: bool
    """False where the registry had it already."""


def import_model(context: JobContext, folder: Path) -> ImportedModel:
    """Register a model's folder and make it the active one of its role.

    The same folder twice is registered once. A student whose teacher is not in the registry is
    registered without it.

    Raises DataError where the folder holds no model that can be read, or another one under an id
    that is taken, or one trained on pictures of another size than the settings'.
    """
    with context.stage("check"):
        record = read_record(folder)
        _check_loads(context, record, folder)
        context.freeze(model=record.model_id)
        registered = _registered(context, record.model_id)
    with context.stage("register") as stage:
        if registered is None:
            registered = _register(context, record, folder)
            new = True
        else:
            _check_same(context, registered, folder)
            with context.database.begin() as connection:
                registered = activate(connection, record.model_id)
            new = False
        stage.items = len(FILES[record.role])
    return ImportedModel(
        model=registered.model_id, role=registered.role, parent=registered.parent, new=new
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


def _register(context: JobContext, record: ModelRecord, folder: Path) -> ModelRow:
    # Files without a row are what an import left that was killed between the two.
    context.artifacts.remove_model(record.model_id)
    with context.artifacts.write_model(record.model_id) as target:
        for name in FILES[record.role]:
            shutil.copyfile(folder / name, target / name)
    if record.parent is not None and _registered(context, record.parent) is None:
        record = record.model_copy(update={"parent": None})
    return register_active(context, record)


def _check_same(context: JobContext, registered: ModelRow, folder: Path) -> None:
    own = context.artifacts.model(registered.model_id, registered.sha256)
    for name in FILES[registered.role]:
        if not (own / name).is_file() or file_sha256(own / name) != file_sha256(folder / name):
            raise DataError(
                f"{folder / name}: differs from that of the registered model "
                f"{registered.model_id}, and a model never changes; train it anew"
            )
