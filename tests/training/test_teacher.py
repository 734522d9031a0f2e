"""The teacher's recipe: it learns, it repeats itself, and its losses stay what they were."""

from __future__ import annotations

import pytest
import torch

from recjob.catalog.split import Part
from recjob.errors import RecjobError, SettingsError
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.training.data import TrainingData
from recjob.training.fit import TrainedModel
from recjob.training.teacher import train_teacher
from recjob.training.validation import Validator
from tests.training.colours import colour_data, cpu, tiny_settings

LOSSES = (2.74440, 1.53793)
"""Of the two epochs of `trained_teacher`. They change only when the mathematics does."""


def same(one: TrainedModel, other: TrainedModel) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_learns_the_users_colours(
    trained_teacher: TrainedModel, data: TrainingData, settings: Settings
) -> None:
    on_training = Validator(data, Part.TRAIN, settings, cpu(), 0).quality(trained_teacher.model)
    assert on_training.auc > 0.85
    own_half = Validator(data, Part.VALIDATION_TEACHER, settings, cpu(), settings.seed)
    assert trained_teacher.validation == own_half.quality(trained_teacher.model)
    assert trained_teacher.validation.auc > 0.85
    assert trained_teacher.epochs[1].loss < trained_teacher.epochs[0].loss
    assert not trained_teacher.model.training


def test_the_losses_are_what_they_were(trained_teacher: TrainedModel) -> None:
    """Other vector instructions (another CPU) move the fifth digit."""
    assert [epoch.loss for epoch in trained_teacher.epochs] == pytest.approx(LOSSES, rel=1e-3)


def test_the_same_seed_gives_the_same_teacher(
    trained_teacher: TrainedModel, data: TrainingData, settings: Settings
) -> None:
    torch.manual_seed(99)  # what happened before has no part in it
    again = train_teacher(data, settings)
    assert same(trained_teacher, again)
    assert [epoch.loss for epoch in again.epochs] == [
        epoch.loss for epoch in trained_teacher.epochs
    ]


def test_another_seed_gives_another_teacher(
    trained_teacher: TrainedModel, data: TrainingData
) -> None:
    settings = tiny_settings(teacher={"epochs": 1}).model_copy(update={"seed": 1})
    other = train_teacher(data, settings)
    assert other.epochs[0].loss != trained_teacher.epochs[0].loss
    assert not same(trained_teacher, other)


@pytest.mark.parametrize(
    "options",
    [
        {"hard_share": 0.5, "negatives_per_positive": 2, "negative_mixes": 2},
        {"optimizer": "sgd", "learning_rate": 0.05, "dropout": 0.5, "size": "s", "batch_size": 32},
    ],
    ids=["hard and many negatives", "the paper's optimiser, a larger size"],
)
def test_the_other_options_learn(data: TrainingData, options: dict[str, object]) -> None:
    settings = tiny_settings(teacher=options)
    trained = train_teacher(data, settings)
    assert trained.model.size == options.get("size", "xs")
    assert trained.validation is not None
    assert trained.validation.auc > 0.6


def test_it_starts_from_the_autoencoder(data: TrainingData) -> None:
    """With a rate of almost nothing the trunk stays where it started."""
    torch.manual_seed(5)
    trunk = dict(Autoencoder(64, 8).backbone.trunk.state_dict())
    settings = tiny_settings(
        teacher={"weights": "autoencoder", "epochs": 1, "learning_rate": 1e-12}
    )
    trained = train_teacher(data, settings, trunk)
    own = trained.model.backbone.trunk.state_dict()
    assert all(torch.allclose(own[name], trunk[name], atol=1e-7) for name in trunk)
    with pytest.raises(SettingsError, match="no autoencoder"):
        train_teacher(data, settings)


def test_a_training_that_diverges_stops() -> None:
    settings = tiny_settings(teacher={"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": 1e30})
    with pytest.raises(RecjobError, match=r"epoch 1, step \d: .*lower the learning rate"):
        train_teacher(colour_data(settings), settings)
