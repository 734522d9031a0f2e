"""Tiny trainings with everything that is drawn at random, here and in processes of their own.

    python -m tests.training.tiny_runs ROLE FOLDER      checkpoints in FOLDER, one line per step
    python -m tests.training.tiny_runs shared FOLDER    a share of the work, see `ranks`

They leave what they trained as `ROLE.safetensors` in FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from recjob.model import backbone
from recjob.model.recommender import OutfitRecommender
from recjob.settings import Settings
from recjob.training.autoencoder import train_autoencoder
from recjob.training.checkpoint import CheckpointFolder
from recjob.training.distributed import joined
from recjob.training.fit import TrainedModel
from recjob.training.student import distill
from recjob.training.teacher import train_teacher
from recjob.training.teacher_scores import FrozenTeacher
from tests.training.colours import (
    N_ITEMS,
    N_USERS,
    PER_CATEGORY,
    colour_catalog,
    colour_data,
    colour_pixels,
    tiny_settings,
)

ROLES = ("teacher", "student", "autoencoder")
OFTEN, RARELY = 0.05 / 60, 60.0
"""Minutes between checkpoints."""

Told = Callable[[int, int, str], None]


def eventful(checkpoint_minutes: float, **options: Any) -> Settings:
    """Dropout, flips, hard negatives, mixes and augmentations."""
    common = {
        "size": "s",
        "dropout": 0.5,
        "epochs": 3,
        "batch_size": 24,
        "hard_share": 0.5,
        "negative_mixes": 3,
        "checkpoint_minutes": checkpoint_minutes,
    } | options
    coded = {"epochs": common["epochs"], "batch_size": 6, "checkpoint_minutes": checkpoint_minutes}
    # The teacher is not trained: its own scale of d means nothing.
    student = common | {"alpha_relative": 0}
    return tiny_settings(teacher=common, student=student, autoencoder=coded)


def long_run() -> Settings:
    """With enough steps to be killed in the middle, and a checkpoint after nearly each."""
    return eventful(OFTEN, epochs=5, batch_size=8)


def narrow_backbone() -> None:
    """Fully connected layers of 32 instead of 1024, so that a checkpoint is small."""
    backbone.FULLY_CONNECTED_WIDTH["s"] = 32


def drawn_teacher(settings: Settings) -> FrozenTeacher:
    """A teacher that was not trained: what it says is as good as any for a comparison."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    return FrozenTeacher(
        OutfitRecommender("xs", N_USERS),
        rng.standard_normal((N_ITEMS, 128)).astype(np.float32),
        rng.standard_normal((N_USERS, 128)).astype(np.float32),
    )


def train(
    role: str,
    settings: Settings,
    checkpoints: CheckpointFolder | None = None,
    told: Told | None = None,
) -> dict[str, torch.Tensor]:
    """The state of what was trained."""
    if role == "autoencoder":
        catalog = colour_catalog()
        rows = np.arange(catalog.n_items)
        coded = train_autoencoder(catalog, colour_pixels(), rows, settings, told, checkpoints)
        return {**coded.model.state_dict(), "losses": torch.tensor(coded.losses)}
    return packed(recommender(role, settings, checkpoints, told))


def recommender(
    role: str,
    settings: Settings,
    checkpoints: CheckpointFolder | None = None,
    told: Told | None = None,
) -> TrainedModel:
    """A teacher or a student."""
    data = colour_data(settings)
    if role == "teacher":
        return train_teacher(data, settings, None, told, checkpoints)
    items = torch.arange(N_ITEMS)
    start = items - items % PER_CATEGORY
    neighbours = torch.stack(
        [start + (items % PER_CATEGORY + far) % PER_CATEGORY for far in (2, 4)], 1
    )
    teacher = drawn_teacher(settings)
    return distill(data, settings, teacher, neighbours, None, told, checkpoints)


def packed(trained: TrainedModel) -> dict[str, torch.Tensor]:
    """Everything of a trained model that a second one must have in common with it."""
    aucs = [epoch.validation.auc for epoch in trained.epochs if epoch.validation]
    return {
        **trained.model.state_dict(),
        "losses": torch.tensor([epoch.loss for epoch in trained.epochs], dtype=torch.float64),
        "aucs": torch.tensor(aucs, dtype=torch.float64),
        "notes": torch.tensor([*trained.notes.values()], dtype=torch.float64),
    }


def write(state: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, path)


SHARED_ROLES = ("teacher", "student", "student-bpr")


def shared_settings(role: str, batch_size: int) -> Settings:
    """What each process, or one with the batches of all, is given.

    No dropout, which each process draws for itself; and the optimiser whose step is linear in the
    gradient: Adam would blow rounding up where a gradient is nearly 0.
    """
    linear = {"dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.05, "epochs": 1}
    settings = eventful(0, batch_size=batch_size, **linear)
    if role == "student-bpr":
        others = {"loss": "bpr", "negatives_per_positive": 2, "contrastive": "users"}
        student = settings.student.model_copy(update=others)
        settings = settings.model_copy(update={"student": student})
    return settings


def main(role: str, folder: Path) -> None:
    torch.set_num_threads(1)
    narrow_backbone()
    if role == "shared":
        with joined(tiny_settings().compute) as ranks:
            for name in SHARED_ROLES:
                trained = recommender(name.split("-")[0], shared_settings(name, 8))
                write(packed(trained), folder / f"{name}-{ranks.rank}.safetensors")
        return
    checkpoints = CheckpointFolder(folder / "checkpoints")

    def told(done: int, total: int, note: str) -> None:
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()

    write(train(role, long_run(), checkpoints, told), folder / f"{role}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
