"""The loop keeps the best epoch, stops in time, and tells where it went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from recjob.catalog.split import Part
from recjob.errors import RecjobError
from recjob.evaluation.protocol import Quality
from recjob.model.recommender import OutfitRecommender, unit
from recjob.settings import TrainingSettings
from recjob.training.data import BatchSource, TrainingData
from recjob.training.distributed import Ranks
from recjob.training.fit import Epoch, best_validation, fit
from recjob.training.pictures import StepInput, StepSource
from recjob.training.validation import Validator
from tests.inference.students import student
from tests.training.colours import colour_data, cpu, is_red, tiny_settings


def user_directions(model: OutfitRecommender, data: TrainingData) -> Tensor:
    """(n_users, 128) vectors that rank well: towards own colour, away from the other."""
    with torch.no_grad():
        red, blue = (
            unit(model.encode_items(data.gather(data.picture_rows[half]))).mean(dim=0)
            for half in (is_red(range(data.catalog.n_items)), ~is_red(range(data.catalog.n_items)))
        )
        features = torch.stack([red, blue])[:, None]
        red, blue = unit(model.encode_outfits(features, torch.ones(2, 1, dtype=torch.bool)))
    sign = torch.tensor([1.0 if user % 2 == 0 else -1.0 for user in range(6)])
    return unit(red - blue) * sign[:, None]


class Loss(nn.Module):
    """A recipe's step whose loss is a plain function."""

    def __init__(self, model: OutfitRecommender, loss: Callable[[StepInput], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, step: StepInput) -> Tensor:
        return self._loss(step)


class Course:
    """Pulls the users to where they rank well for some epochs, then away: a course that is known.

    Only users learn, so that an epoch costs its validation only.
    """

    def __init__(self, good_epochs: int, part: Part = Part.VALIDATION_TEACHER) -> None:
        settings = tiny_settings(split={} if part != Part.TEST else {"test": 0})
        self.data = colour_data(settings)
        self.model = student()
        self.model.users = torch.nn.Embedding(6, 128)
        torch.nn.init.zeros_(self.model.users.weight)
        batches = BatchSource(self.data, 16, 1, 0.0, 1, 0)
        self.source = StepSource(self.data, batches, False, 0, Ranks())
        self.validator = Validator(self.data, part, settings, cpu(), 0)
        self._good = user_directions(self.model, self.data)
        self._good_steps = good_epochs * self.source.steps
        self._step = 0

    def loss(self, step: StepInput) -> Tensor:
        self._step += 1
        target = self._good if self._step <= self._good_steps else -self._good
        return ((self.model.users.weight - target) ** 2).sum()

    def run(
        self,
        epochs: int,
        patience: int,
        loss: Callable[[StepInput], Tensor] | None = None,
        on_progress: Callable[[int, int, str], None] | None = None,
    ) -> tuple[Epoch, ...]:
        options = TrainingSettings(
            optimizer="sgd",
            learning_rate=0.05,
            user_rate_factor=5,
            momentum=0,
            weight_decay=0,
            clip_norm=100,
            epochs=epochs,
            patience=patience,
        )
        step = Loss(self.model, loss or self.loss)
        return fit(step, self.model, self.source, self.validator, options, 0, on_progress)


def test_the_best_epoch_is_kept_and_patience_ends() -> None:
    course = Course(good_epochs=2)
    epochs = course.run(epochs=9, patience=3)
    aucs = [epoch.validation.auc for epoch in epochs if epoch.validation]
    best = aucs.index(max(aucs))
    assert best < 2
    assert max(aucs) > 0.8
    assert aucs[-1] < 0.3
    assert len(epochs) == best + 1 + 3
    kept = course.validator.quality(course.model)
    assert kept.auc == max(aucs)
    assert best_validation(epochs) == kept
    assert not course.model.training


def test_the_worst_comes_first_and_the_last_epoch_is_kept() -> None:
    course = Course(good_epochs=100)
    course.model.users.weight.data -= 3 * user_directions(course.model, course.data)
    epochs = course.run(epochs=3, patience=20)
    assert len(epochs) == 3
    kept = course.validator.quality(course.model)
    assert kept == best_validation(epochs)


def test_without_validation_the_last_epoch_is_kept() -> None:
    course = Course(good_epochs=1, part=Part.TEST)
    assert course.validator.empty
    epochs = course.run(epochs=4, patience=1)
    assert [epoch.validation for epoch in epochs] == [None] * 4
    assert best_validation(epochs) is None
    bad = -user_directions(course.model, course.data)
    assert float((course.model.users.weight.detach() - bad).abs().max()) < 0.05


def test_nan_stops_the_training() -> None:
    course = Course(good_epochs=100)
    steps = course.source.steps
    seen: list[StepInput] = []

    def loss(step: StepInput) -> Tensor:
        seen.append(step)
        return course.loss(step) * (math.nan if len(seen) == steps + 2 else 1)

    with pytest.raises(RecjobError, match="epoch 2, step 2: the loss is nan") as stopped:
        course.run(epochs=3, patience=3, loss=loss)
    catalog = course.data.catalog
    for user, outfit in seen[-1].batch.positives[:3]:
        named = f"user '{catalog.user_ids[user]}' with outfit '{catalog.outfit_ids[outfit]}'"
        assert named in str(stopped.value)
    assert str(stopped.value).endswith("; lower the learning rate")


def test_a_poisoned_batch_stops_the_training() -> None:
    """One user's vector is damaged: the first batch with that user is where it shows."""
    course = Course(good_epochs=100)
    course.model.users.weight.data[3] = math.nan
    place = (0, 0)

    def loss(step: StepInput) -> Tensor:
        nonlocal place
        place = (step.batch.epoch, step.batch.step)
        vectors: Tensor = course.model.users(step.batch.users)
        return vectors.square().sum()

    with pytest.raises(RecjobError, match=r"epoch \d, step \d: the loss is nan in the batch") as it:
        course.run(epochs=3, patience=3, loss=loss)
    assert str(it.value).startswith(f"epoch {place[0]}, step {place[1]}:")


def test_progress_and_losses() -> None:
    course = Course(good_epochs=100)
    told: list[tuple[int, int, str]] = []
    seen: list[float] = []

    def loss(step: StepInput) -> Tensor:
        value = course.loss(step)
        seen.append(float(value.detach()))
        return value

    epochs = course.run(2, 2, loss, lambda done, total, note: told.append((done, total, note)))
    steps = course.source.steps
    assert [done for done, _, _ in told] == [*range(1, 2 * steps + 1), 2 * steps]
    assert {total for _, total, _ in told} == {2 * steps}
    assert told[0][2] == ""
    assert "validation AUC" in told[-1][2]
    assert [epoch.loss for epoch in epochs] == pytest.approx(
        [sum(seen[:steps]) / steps, sum(seen[steps:]) / steps]
    )
    assert all(epoch.seconds > 0 for epoch in epochs)


def test_the_first_of_equal_epochs_counts() -> None:
    def epoch(auc: float, ndcg: float) -> Epoch:
        return Epoch(1.0, Quality(auc, ndcg, ndcg, 1, 1), 1.0)

    found = best_validation((epoch(0.6, 0.1), epoch(0.7, 0.2), epoch(0.7, 0.3)))
    assert found is not None
    assert found.ndcg == 0.2
