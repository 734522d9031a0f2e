"""Where a training runs: on the database (`workspace`), or on folders alone (`offline`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch

from recjob.errors import DataError
from recjob.inference.model_files import StoredRecommender
from recjob.jobs.home import CHECKPOINTS_FOLDER
from recjob.jobs.model_record import ModelRecord
from recjob.jobs.pictures import PicturedCatalog, picture_size
from recjob.jobs.stages import Stage
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.training.checkpoint import CheckpointFolder
from recjob.training.data import TrainingData, prepare_data


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
