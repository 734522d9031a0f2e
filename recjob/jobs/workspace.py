"""What jobs share: the catalog of the database, its pictures, and the models in use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from recjob.catalog.catalog import Catalog
from recjob.catalog.images import PackedImages
from recjob.errors import DataError, UserError
from recjob.inference.model_files import StoredRecommender, load_autoencoder, load_recommender
from recjob.jobs.model_record import ModelRecord, write_record
from recjob.jobs.pictures import PicturedCatalog, open_pictures, with_pictures
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import Stage
from recjob.jobs.training_site import TrainingSite, check_image_size
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.catalog_store import CatalogKeys, read_catalog, read_keys
from recjob.store.ledger import Resource
from recjob.store.models import ModelRow, activate, active, register
from recjob.training.distributed import started_together

R = TypeVar("R")


@dataclass(frozen=True)
class Shop(PicturedCatalog):
    """The catalog as a job reads it, with its pictures and the keys of its rows."""

    keys: CatalogKeys


def read_shop(context: JobContext, size: int | None = None) -> Shop:
    """Catalog and pictures of `size` pixels, by default `images.size`.

    Raises DataError where there is no catalog yet, or a picture is missing in that size.
    """
    return _with_keys(*_read_catalog(context), open_pictures(context.settings, size))


def read_student_shop(context: JobContext) -> tuple[Shop, ModelRow, StoredRecommender]:
    """The active student, and the catalog with pictures of the size that it was trained on.

    Raises DataError where there is no catalog yet, NotFoundError where there is no student.
    """
    catalog, keys = _read_catalog(context)
    row, stored = load_active_recommender(context, "student")
    pictures = open_pictures(context.settings, stored.image_size)
    return _with_keys(catalog, keys, pictures), row, stored


def _read_catalog(context: JobContext) -> tuple[Catalog, CatalogKeys]:
    with context.database.connect() as connection:
        catalog, keys = read_catalog(connection), read_keys(connection)
    if catalog.n_items == 0:
        raise DataError(
            "the catalog is empty; run `python cli.py import tables FOLDER` first "
            "(docs/data.md shows the format)"
        )
    return catalog, keys


def _with_keys(catalog: Catalog, keys: CatalogKeys, pictures: PackedImages) -> Shop:
    pictured = with_pictures(catalog, pictures)
    return Shop(pictured.catalog, pictured.pictures, pictured.picture_rows, keys)


def active_model(context: JobContext, role: Role) -> ModelRow:
    """The active model of a role; NotFoundError names the command that makes one."""
    with context.database.connect() as connection:
        return active(connection, role)


def load_active_recommender(context: JobContext, role: Role) -> tuple[ModelRow, StoredRecommender]:
    """The active teacher or student, its files checked against the registry."""
    row = active_model(context, role)
    return row, load_recommender_of(context, row)


def load_recommender_of(context: JobContext, row: ModelRow) -> StoredRecommender:
    """A registered teacher or student, its files checked against the registry."""
    return load_recommender(context.artifacts.model(row.model_id, row.sha256))


def register_active(context: JobContext, record: ModelRecord) -> ModelRow:
    """Register a written model and make it the active one of its role, which no gate asks about."""
    with context.database.begin() as connection:
        _register(connection, context, record)
        return activate(connection, record.model_id)


def register_trained(context: JobContext, record: ModelRecord) -> ModelRow:
    """Register a written model: a student as a candidate for the gate, another in use at once."""
    if record.role != "student":
        return register_active(context, record)
    with context.database.begin() as connection:
        return _register(connection, context, record)


def _register(connection: Connection, context: JobContext, record: ModelRecord) -> ModelRow:
    return register(
        connection,
        model_id=record.model_id,
        role=record.role,
        parent=record.parent,
        settings=record.settings,
        data_fingerprint=record.data_fingerprint,
        metrics=record.metrics,
        sha256=context.artifacts.model_sha256(record.model_id),
        seed=record.seed,
        code_version=record.code_version,
    )


def what_next(row: ModelRow) -> str:
    """What becomes of a model of this status, and what a person does about it."""
    if row.role == "student":
        if row.status == "active":
            return "it is in use; `python cli.py embed` computes its vectors"
        if row.status == "retired":
            return f"it is retired; `python cli.py models promote {row.model_id}` takes it back"
        return (
            "it is a candidate, and the active student stays in use; run `python cli.py compile` "
            "and `python cli.py gate`, which takes it into use where it is good enough"
        )
    users = "teachers and students" if row.role == "autoencoder" else "students"
    return f"it is in use: {users} that are trained from now on learn from it"


class DatabaseSite:
    """A training on the database: its catalog, the registry, the artifact folder."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def settings(self) -> Settings:
        """All settings."""
        return self._context.settings

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """A stage of the job."""
        return self._context.stage(name)

    def read_shop(self, size: int | None = None) -> PicturedCatalog:
        """The catalog of the database."""
        return read_shop(self._context, size)

    def recommender(self, role: Role) -> tuple[str, StoredRecommender]:
        """The active model of a role; the ledger says which."""
        row, stored = load_active_recommender(self._context, role)
        check_image_size(f"{role} {row.model_id}", role, stored, self._context.settings)
        self._context.freeze(**{role: row.model_id})
        return row.model_id, stored

    def autoencoder(self) -> tuple[str, Autoencoder]:
        """The active autoencoder; the ledger says which."""
        row = active_model(self._context, "autoencoder")
        model = load_autoencoder(self._context.artifacts.model(row.model_id, row.sha256))
        self._context.freeze(autoencoder=row.model_id)
        return row.model_id, model

    def done_reading(self) -> None:
        """Imports, nights and evaluations may go on: what is packed already stays as it is."""
        self._context.lease.give_back(Resource.CATALOG)

    def save(self, record: ModelRecord, write: Callable[[Path], None]) -> str:
        """Into the artifact folder, and registered as `register_trained` does."""
        with self._context.artifacts.write_model(record.model_id) as folder:
            write(folder)
            write_record(folder, record)
        return what_next(register_trained(self._context, record))


def on_database(training: Callable[[TrainingSite], R]) -> Callable[[JobContext], R]:
    """A training as a job.

    Raises UserError where torchrun started several processes: they have no ledger in common.
    """
    if started_together():
        raise UserError("torchrun trains on folders; give --data and --out, then `models import`")
    return lambda context: training(DatabaseSite(context))
