"""Where a training runs: on the database (`workspace`), or on folders alone (`offline`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from recjob.catalog.catalog import Catalog, Int64Array
from recjob.catalog.images import PackedImages
from recjob.errors import DataError
from recjob.inference.model_files import StoredRecommender
from recjob.jobs.model_record import ModelRecord
from recjob.jobs.stages import Stage
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.training.checkpoint import CheckpointFolder
from recjob.training.data import TrainingData, prepare_data

IMAGES_FOLDER = "images"
CHECKPOINTS_FOLDER = "checkpoints"


@dataclass(frozen=True)
class PicturedCatalog:
    """A catalog and its packed pictures."""

    catalog: Catalog
    pictures: PackedImages
    picture_rows: Int64Array
    """(n_items,) row of `pictures.pixels`, -1 for items in quarantine."""


class TrainingSite(Protocol):
    """What a training reads and where it leaves its model."""

    @property
    def settings(self) -> Settings:
        """All settings."""
        ...

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Measure the block as a stage of the result."""
        ...

    def read_shop(self, size: int | None = None) -> PicturedCatalog:
        """Catalog and pictures of `size` pixels, by default `images.size`.

        Raises DataError where there are none.
        """
        ...

    def recommender(self, role: Role) -> tuple[str, StoredRecommender]:
        """Id and model of a role, in use here; NotFoundError where there is none."""
        ...

    def autoencoder(self) -> tuple[str, Autoencoder]:
        """Id and model of the autoencoder in use here; NotFoundError where there is none."""
        ...

    def done_reading(self) -> None:
        """Say that the catalog was read: from now on it may change, which the training ignores."""
        ...

    def save(self, record: ModelRecord, write: Callable[[Path], None]) -> str:
        """Keep a model, whole or not at all; says what becomes of it, and what to do next.

        `write` puts the files of the model into the folder that it is given.
        """
        ...


def picture_size(settings: Settings, role: Role) -> int:
    """Side in pixels of the pictures that a teacher or student of the settings sees."""
    own = settings.teacher.image_size if role == "teacher" else 0
    return own or settings.images.size


def picture_sizes(settings: Settings) -> tuple[int, ...]:
    """Every size that the settings name, ascending: an import packs them all."""
    return tuple(sorted({picture_size(settings, "teacher"), picture_size(settings, "student")}))


def open_pictures(settings: Settings, size: int | None = None) -> PackedImages:
    """The packed pictures of `size` pixels, by default of the size that the settings ask for."""
    size = size or settings.images.size
    return PackedImages.open(settings.home / IMAGES_FOLDER / str(size), size)


def with_pictures(catalog: Catalog, pictures: PackedImages) -> PicturedCatalog:
    """Find each item's picture; DataError where one is missing."""
    rows = np.full(catalog.n_items, -1, np.int64)
    usable = np.flatnonzero(catalog.item_usable)
    rows[usable] = pictures.rows([catalog.item_image[item] for item in usable])
    return PicturedCatalog(catalog, pictures, rows)


def checkpoint_folder(settings: Settings, role: Role) -> CheckpointFolder:
    """Where the training of a role keeps its state; empty once the model was saved."""
    return CheckpointFolder(settings.home / CHECKPOINTS_FOLDER / role)


def training_data(shop: PicturedCatalog, settings: Settings) -> TrainingData:
    """Split positives and warm users of a shop."""
    return prepare_data(shop.catalog, shop.pictures.pixels, shop.picture_rows, settings)


def trunk_of(autoencoder: Autoencoder) -> dict[str, torch.Tensor]:
    """The weights that `weights = "autoencoder"` starts a trunk from."""
    return dict(autoencoder.backbone.trunk.state_dict())


def check_image_size(what: str, role: Role, stored: StoredRecommender, settings: Settings) -> None:
    """Raise DataError where a model was trained on pictures of another size than the settings'."""
    wanted = picture_size(settings, role)
    if stored.image_size != wanted:
        key = "images.size" if wanted == settings.images.size else "teacher.image_size"
        raise DataError(
            f"{what} was trained on pictures of {stored.image_size} pixels, the settings say "
            f"{key} = {wanted}; use its settings, or import and train again"
        )
