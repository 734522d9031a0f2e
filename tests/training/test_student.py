"""The student's recipe: each piece of its loss, and what is left when pieces are left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recjob.catalog.split import Part
from recjob.errors import RefusedError
from recjob.settings import Settings
from recjob.training.data import TrainingData
from recjob.training.fit import TrainedModel
from recjob.training.student import distill
from recjob.training.teacher import train_teacher
from recjob.training.teacher_scores import FrozenTeacher, freeze_teacher
from recjob.training.validation import Validator
from tests.training.colours import N_ITEMS, PER_CATEGORY, cpu, tiny_settings

LOSSES = (3.27349, 2.57843)
"""Of the two epochs of `trained_student`. They change only when the mathematics does."""


@pytest.fixture(scope="module")
def teacher(trained_teacher: TrainedModel, data: TrainingData, settings: Settings) -> FrozenTeacher:
    return freeze_teacher(trained_teacher.model, data.catalog.user_ids, data, settings, cpu())


@pytest.fixture(scope="module")
def neighbours() -> Tensor:
    """The next two items of the same colour and category."""
    items = torch.arange(N_ITEMS)
    start = items - items % PER_CATEGORY
    return torch.stack([start + (items % PER_CATEGORY + step) % PER_CATEGORY for step in (2, 4)], 1)


@pytest.fixture(scope="module")
def trained_student(
    data: TrainingData, settings: Settings, teacher: FrozenTeacher, neighbours: Tensor
) -> TrainedModel:
    return distill(data, settings, teacher, neighbours)


def one_epoch(**options: object) -> Settings:
    return tiny_settings(student={"epochs": 1} | options)


def same(one: TrainedModel, other: TrainedModel) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_learns_from_the_teacher(
    trained_student: TrainedModel, data: TrainingData, settings: Settings
) -> None:
    on_training = Validator(data, Part.TRAIN, settings, cpu(), 0).quality(trained_student.model)
    assert on_training.auc > 0.85
    own_half = Validator(data, Part.VALIDATION_STUDENT, settings, cpu(), settings.seed)
    assert trained_student.validation == own_half.quality(trained_student.model)
    assert trained_student.validation.auc > 0.8
    assert trained_student.epochs[1].loss < trained_student.epochs[0].loss
    notes = trained_student.notes
    assert notes["teacher_gap"] > 0
    assert notes["alpha"] == pytest.approx(1 / notes["teacher_gap"])
    assert notes["mean_d"] == pytest.approx(1, abs=0.3)
    assert 0 <= notes["share_d_below_zero"] < 0.5


def test_the_losses_are_what_they_were(trained_student: TrainedModel) -> None:
    """Other vector instructions (another CPU) move the fourth digit."""
    assert [epoch.loss for epoch in trained_student.epochs] == pytest.approx(LOSSES, rel=1e-3)


def test_the_same_seed_gives_the_same_student(
    trained_student: TrainedModel,
    data: TrainingData,
    settings: Settings,
    teacher: FrozenTeacher,
    neighbours: Tensor,
) -> None:
    torch.manual_seed(99)
    again = distill(data, settings, teacher, neighbours)
    assert same(trained_student, again)
    assert again.notes == trained_student.notes


def test_n_pair_without_contrast_is_the_teachers_recipe(
    data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    """Its seed is one higher: nothing of the contrastive loss is left, to the last bit."""
    plain = {"flip": False, "epochs": 1, "hard_share": 0.5}
    settings = tiny_settings(
        student={**plain, "loss": "n-pair", "contrastive_weight": 0}, teacher=plain
    )
    student = distill(data, settings, teacher, neighbours)
    own = train_teacher(data, settings.model_copy(update={"seed": settings.seed + 1}))
    assert [epoch.loss for epoch in student.epochs] == [epoch.loss for epoch in own.epochs]
    assert same(student, own)
    assert student.notes == {}


def test_the_contrastive_loss_is_added_with_its_weight(
    data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    """At a rate of almost nothing the model stays, so the epochs' losses are on one line."""
    losses = [
        distill(
            data,
            one_epoch(learning_rate=1e-12, contrastive_weight=weight, loss="n-pair", flip=False),
            teacher,
            neighbours,
        )
        .epochs[0]
        .loss
        for weight in (0.0, 0.5, 1.0)
    ]
    assert losses[1] - losses[0] > 0.1
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)


@pytest.mark.parametrize("loss", ["n-pair", "bpr"])
def test_the_other_losses_learn(
    loss: str, data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    settings = one_epoch(loss=loss, negatives_per_positive=2, hard_share=0.5, epochs=2)
    trained = distill(data, settings, teacher, neighbours)
    on_training = Validator(data, Part.TRAIN, settings, cpu(), 0).quality(trained.model)
    assert on_training.auc > 0.8
    assert trained.notes == {}


@pytest.mark.parametrize(
    "augmentations", [("erase", "erase"), ("replace", "replace"), ("identity", "replace")]
)
def test_every_pair_of_augmentations_runs(
    augmentations: tuple[str, str], data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    settings = one_epoch(augmentations=augmentations, batch_size=64)
    assert distill(data, settings, teacher, neighbours).epochs[0].loss > 0


def test_fnd_pulls_at_what_the_teacher_holds_for_liked(
    data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    """The teacher's d is in the loss: with another alpha it is another loss, n-pair has none."""
    losses = {
        alpha: distill(
            data,
            one_epoch(alpha_relative=alpha, batch_size=64, contrastive_weight=0),
            teacher,
            neighbours,
        )
        .epochs[0]
        .loss
        for alpha in (0.5, 1.0, 2.0)
    }
    assert len(set(losses.values())) == 3


def test_a_teacher_that_cannot_tell_is_refused(
    data: TrainingData, settings: Settings, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    useless = FrozenTeacher(teacher.model, teacher.features, -teacher.user_vectors)
    with pytest.raises(RefusedError, match="nothing can be distilled from it"):
        distill(data, settings, useless, neighbours)


def test_users_as_classes_are_another_loss_than_views(
    data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    """A batch has six users and sixteen outfits. At a rate of almost nothing the model stays, and
    at a low temperature the small differences of its random features count."""
    plain = {
        "learning_rate": 1e-12,
        "loss": "n-pair",
        "flip": False,
        "freeze_backbone": True,
        "contrastive_temperature": 0.001,
    }
    losses = {
        (contrastive, weight): distill(
            data,
            one_epoch(**plain, contrastive=contrastive, contrastive_weight=weight),
            teacher,
            neighbours,
        )
        .epochs[0]
        .loss
        for contrastive, weight in (("views", 1.0), ("users", 1.0), ("users", 0.5), ("users", 0.0))
    }
    assert losses["users", 1.0] - losses["users", 0.0] > 0.1
    assert losses["users", 1.0] - losses["users", 0.0] == pytest.approx(
        2 * (losses["users", 0.5] - losses["users", 0.0]), rel=1e-4
    )
    assert abs(losses["users", 1.0] - losses["views", 1.0]) > 0.05


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_alpha_by_schedule_is_seen_in_d(
    schedule: str, data: TrainingData, teacher: FrozenTeacher, neighbours: Tensor
) -> None:
    """Both schedules are 2.5 on average here, and end at 1: d follows alpha alone."""
    epochs = {"epochs": 4, "contrastive_weight": 0, "freeze_backbone": True}
    still = distill(data, one_epoch(**epochs), teacher, neighbours).notes
    options = one_epoch(**epochs, alpha_schedule=schedule, alpha_start=4.0)
    moving = distill(data, options, teacher, neighbours).notes
    assert moving["alpha"] == still["alpha"]
    assert moving["mean_d"] == pytest.approx(2.5 * still["mean_d"], rel=0.1)
    assert moving["share_d_below_zero"] == still["share_d_below_zero"]
    assert 1 < moving["final_mean_d"] / still["final_mean_d"] < 2
