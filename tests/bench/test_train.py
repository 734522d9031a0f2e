"""The benchmark of training: both loops learn the same, and what differs is found."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from recjob.bench import train, train_loops
from recjob.bench.straightforward import StraightforwardTeacher
from recjob.bench.train import TrainWork, bench_train, print_train
from recjob.bench.train_steps import Recipe, StepBuilder
from recjob.catalog.catalog import PADDING
from recjob.model import losses
from recjob.settings import DemoSettings, Settings
from recjob.training.data import Batch
from recjob.training.draws import Purpose, torch_draws
from tests.training.colours import colour_data, tiny_settings

WORK = TrainWork(size=64, model_size="xs", batch_size=4, steps=1, repeats=1)
DEMO = DemoSettings(items=60, users=6, outfits_per_user=16, cold_starters=0, strangers=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def builder(recipe: Recipe) -> StepBuilder:
    settings = train._as_measured(tiny_settings(), WORK)
    return StepBuilder(recipe, colour_data(settings), settings)


def differences(steps: StepBuilder) -> tuple[float, float]:
    """Of our fp32 loop to the straightforward one: of losses, and of gradients."""
    ways = list(train_loops.ways_to_train(steps))
    assert [(way.loop, way.precision) for way in ways] == [
        ("straightforward", "fp32"),
        ("ours", "fp32"),
        ("ours, trunk frozen", "fp32"),
    ]
    return train_loops.compare(ways[:2], steps.start())[1]


@pytest.mark.system
def test_both_recipes_on_a_drawn_shop(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.model_validate(
        {
            "demo": DEMO.model_dump(),
            "compute": {"device": "cpu", "precision": "bf16", "threads": 1},
            "images": {"workers": 1},
        }
    )
    result = bench_train(settings, WORK)
    assert (result.items, result.picture_side, result.source) == (60, 64, "drawn garments")
    assert [recipe.recipe for recipe in result.recipes] == ["teacher", "student"]
    for recipe in result.recipes:
        assert (recipe.model_size, recipe.batch_size, recipe.negatives) == ("xs", 4, 4)
        assert recipe.equal
        assert [(way.loop, way.precision) for way in recipe.ways] == [
            ("straightforward", "fp32"),
            ("straightforward", "bf16"),
            ("ours", "fp32"),
            ("ours", "bf16"),
            ("ours, trunk frozen", "bf16"),
        ]
        theirs, theirs_bf16, ours, ours_bf16, frozen = recipe.ways
        assert frozen.pictures_per_step == 0
        assert theirs.times_straightforward == 1
        assert ours.pictures_per_step == ours_bf16.pictures_per_step < theirs.pictures_per_step
        assert theirs.pictures_per_step == theirs_bf16.pictures_per_step
        assert 0 < ours_bf16.loss_difference < train.BF16_LOSS
        faster = max(ours.steps_per_second, ours_bf16.steps_per_second)
        assert recipe.times == pytest.approx(faster / theirs.steps_per_second)
    print_train(result)
    assert "losses and gradients equal" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("recipe", ["teacher", "student"])
def test_equal_draws_give_equal_losses_and_gradients(recipe: Recipe) -> None:
    loss, gradient = differences(builder(recipe))
    assert loss <= train.FP32_LOSS
    assert gradient <= train.FP32_GRADIENT


def test_a_frozen_trunk_gives_the_same_losses() -> None:
    steps = builder("student")
    theirs, _, frozen = train_loops.ways_to_train(steps)
    loss, gradient = train_loops.compare([theirs, frozen], steps.start())[1]
    assert loss <= train.FP32_LOSS
    assert gradient <= train.FP32_GRADIENT


def test_every_item_of_every_outfit_is_encoded() -> None:
    """Counted by hand: positives, negatives, and both views, of which one has an item less."""
    steps = builder("student")
    block = train_loops.time_steps(
        next(train_loops.ways_to_train(steps)), steps.start(), steps, steps=2
    )
    wanted = 0
    batches = steps.batches()
    next(batches)  # is not timed
    for _ in range(2):
        batch = next(batches)
        draws = torch_draws(0, Purpose.AUGMENTATIONS, batch.epoch, batch.step)
        sets = (batch.outfits, batch.negatives, *steps._views(batch.outfits, draws))
        wanted += sum(int((outfits != PADDING).sum()) for outfits in sets)
    assert block.pictures == wanted / 2
    assert block.seconds > 0
    assert block.cpu_seconds > 0


def test_another_loss_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def colder(positive: Tensor, negative: Tensor, temperature: float, valid: Tensor) -> Tensor:
        return losses.n_pair_loss(positive, negative, temperature * 1.001, valid)

    monkeypatch.setattr("recjob.bench.straightforward.n_pair_loss", colder)
    assert differences(builder("teacher"))[0] > train.FP32_LOSS


def test_a_forgotten_item_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = StraightforwardTeacher.vectors

    def without_the_last(self: StraightforwardTeacher, outfits: Tensor) -> Tensor:
        return whole(self, outfits[:, :2])

    monkeypatch.setattr(StraightforwardTeacher, "vectors", without_the_last)
    assert differences(builder("teacher"))[0] > train.FP32_LOSS


def test_other_views_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(seed: int, purpose: Purpose, *place: int) -> torch.Generator:
        return torch_draws(seed + 1, purpose, *place)

    monkeypatch.setattr("recjob.bench.straightforward.torch_draws", other)
    assert differences(builder("student"))[0] > train.FP32_LOSS


def test_a_lost_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss alone would not tell that nothing flows back into the negatives."""
    whole = StraightforwardTeacher.scores

    def scores(self: StraightforwardTeacher, batch: Batch) -> tuple[Tensor, Tensor]:
        positive, negative = whole(self, batch)
        return positive, negative.detach()

    monkeypatch.setattr(StraightforwardTeacher, "scores", scores)
    loss, gradient = differences(builder("teacher"))
    assert loss <= train.FP32_LOSS
    assert gradient > train.FP32_GRADIENT
    assert np.isfinite(gradient)
