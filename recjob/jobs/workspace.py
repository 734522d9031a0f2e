"""What jobs share: the catalog of the database, its pictures, and the models in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recjob import __version__
from recjob.catalog.catalog import Catalog, Int64Array
from recjob.catalog.images import PackedImages
from recjob.errors import DataError
from recjob.inference.model_files import StoredRecommender, load_autoencoder, load_recommender
from recjob.jobs.runner import JobContext
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.store.catalog_store import CatalogKeys, data_fingerprint, read_catalog, read_keys
from recjob.store.models import ModelRow, Role, activate, active, register
from recjob.training.data import TrainingData, prepare_data

IMAGES_FOLDER = "images"


@dataclass(frozen=True)
class Shop:
    """The catalog as a job reads it, with its pictures."""

    catalog: Catalog
    keys: CatalogKeys
    pictures: PackedImages
    picture_rows: Int64Array
    """(n_items,) row of `pictures.pixels`, -1 for items in quarantine."""


def open_pictures(settings: Settings) -> PackedImages:
    """The packed pictures of the size that the settings ask for."""
    size = settings.images.size
    return PackedImages.open(settings.home / IMAGES_FOLDER / str(size), size)


def picture_rows(catalog: Catalog, pictures: PackedImages) -> Int64Array:
    """(n_items,) row of each item's picture, -1 in quarantine; DataError where one is missing."""
    rows = np.full(catalog.n_items, -1, np.int64)
    usable = np.flatnonzero(catalog.item_usable)
    rows[usable] = pictures.rows([catalog.item_image[item] for item in usable])
    return rows


def read_shop(context: JobContext) -> Shop:
    """Catalog and pictures; DataError where there is no catalog yet."""
    with context.database.connect() as connection:
        catalog, keys = read_catalog(connection), read_keys(connection)
    if catalog.n_items == 0:
        raise DataError(
            "the catalog is empty; run `python cli.py import tables FOLDER` first "
            "(docs/data.md shows the format)"
        )
    pictures = open_pictures(context.settings)
    return Shop(catalog, keys, pictures, picture_rows(catalog, pictures))


def training_data(shop: Shop, settings: Settings) -> TrainingData:
    """Split positives and warm users of a shop."""
    return prepare_data(shop.catalog, shop.pictures.pixels, shop.picture_rows, settings)


def active_model(context: JobContext, role: Role) -> ModelRow:
    """The active model of a role; NotFoundError names the command that makes one."""
    with context.database.connect() as connection:
        return active(connection, role)


def load_active_recommender(context: JobContext, role: Role) -> tuple[ModelRow, StoredRecommender]:
    """The active teacher or student, its files checked against the registry.

    Raises DataError where it was trained on pictures of another size than the settings'.
    """
    row = active_model(context, role)
    stored = load_recommender(context.artifacts.model(row.model_id, row.sha256))
    if stored.image_size != context.settings.images.size:
        raise DataError(
            f"{role} {row.model_id} was trained on pictures of {stored.image_size} pixels, the "
            f"settings say images.size = {context.settings.images.size}; use its settings, or "
            "import and train again"
        )
    return row, stored


def load_active_autoencoder(context: JobContext) -> tuple[ModelRow, Autoencoder]:
    """The active autoencoder, its files checked against the registry."""
    row = active_model(context, "autoencoder")
    return row, load_autoencoder(context.artifacts.model(row.model_id, row.sha256))


def autoencoder_trunk(context: JobContext, weights: str) -> dict[str, torch.Tensor] | None:
    """The trunk of the active autoencoder where `weights` asks for it, else None."""
    if weights != "autoencoder":
        return None
    return dict(load_active_autoencoder(context)[1].backbone.trunk.state_dict())


def register_active(
    context: JobContext,
    role: Role,
    model_id: str,
    *,
    parent: str | None,
    section: dict[str, object],
    catalog: Catalog,
    metrics: dict[str, object],
) -> ModelRow:
    """Register a written model and make it the active one of its role."""
    with context.database.begin() as connection:
        register(
            connection,
            model_id=model_id,
            role=role,
            parent=parent,
            settings=section,
            data_fingerprint=data_fingerprint(catalog),
            metrics=metrics,
            sha256=context.artifacts.model_sha256(model_id),
            seed=context.settings.seed,
            code_version=__version__,
        )
        return activate(connection, model_id)
