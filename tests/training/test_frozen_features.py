"""Frozen trunks: what training reads is what the trunk sees, and the trunk stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import recjob.training.frozen_features as module
from recjob.catalog.split import Part
from recjob.errors import RecjobError
from recjob.inference.model_files import load_recommender, save_recommender
from recjob.model.recommender import OutfitRecommender
from recjob.settings import Settings
from recjob.training.data import BatchSource, TrainingData
from recjob.training.distributed import Ranks
from recjob.training.fit import TrainedModel
from recjob.training.frozen_features import FrozenFeatures, freeze_trunk
from recjob.training.pictures import StepSource
from recjob.training.student import distill
from recjob.training.teacher import train_teacher
from recjob.training.validation import Validator
from tests.training.colours import colour_catalog, colour_data, cpu, tiny_settings

FROZEN = tiny_settings(
    teacher={"freeze_backbone": True, "epochs": 12, "learning_rate": 3e-3},
    student={"freeze_backbone": True, "epochs": 1, "loss": "n-pair"},
)


def freeze(
    model: OutfitRecommender, data: TrainingData, settings: Settings = FROZEN
) -> FrozenFeatures:
    frozen = freeze_trunk(model, data, settings, settings.teacher, cpu(), Ranks())
    assert frozen is not None
    return frozen


def xs(seed: int = 0) -> OutfitRecommender:
    torch.manual_seed(seed)
    return OutfitRecommender("xs", 6)


@torch.no_grad()
def test_features_are_those_of_the_pictures_and_of_their_mirror_images(
    data: TrainingData,
) -> None:
    model = xs()
    frozen = freeze(model, data)
    items = np.array([3, 17, 0, 3])
    mirrored = torch.tensor([True, False, True, False])
    pixels = data.gather(items)
    seen = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    found = frozen.gather(items, mirrored)
    torch.testing.assert_close(found, model.backbone.trunk_features(seen))
    assert not torch.equal(found[0], found[3])
    torch.testing.assert_close(frozen.gather(items), model.backbone.trunk_features(pixels))


def test_a_step_reads_what_it_would_have_encoded(data: TrainingData) -> None:
    model = xs()
    batches = BatchSource(data, 16, 1, 0.0, 1, 0)
    frozen = freeze(model, data)
    plain, kept = (
        next(iter(StepSource(data, batches, True, 7, Ranks(), frozen=source).epoch(1)))
        for source in (None, frozen)
    )
    with torch.no_grad():
        torch.testing.assert_close(kept.pixels, model.backbone.trunk_features(plain.pixels))


@pytest.fixture(scope="module")
def trained(data: TrainingData) -> TrainedModel:
    return train_teacher(data, FROZEN)


def test_only_what_comes_after_the_trunk_learns(trained: TrainedModel) -> None:
    torch.manual_seed(FROZEN.seed)
    start = OutfitRecommender("xs", 6, FROZEN.teacher.dropout).state_dict()
    after = trained.model.state_dict()
    same = {name for name in start if torch.equal(start[name], after[name])}
    assert same == {name for name in start if name.startswith("backbone.trunk.")}
    assert trained.epochs[-1].loss < trained.epochs[0].loss


def test_the_saved_model_scores_pictures_as_training_did(
    trained: TrainedModel, data: TrainingData, tmp_path: Path
) -> None:
    ids = tuple(data.catalog.user_ids)
    save_recommender(tmp_path, trained.model, ids, 64)
    stored = load_recommender(tmp_path).model
    own_half = Validator(data, Part.VALIDATION_TEACHER, FROZEN, cpu(), FROZEN.seed)
    from_pictures = own_half.quality(stored)
    assert trained.validation is not None
    assert from_pictures.auc == pytest.approx(trained.validation.auc, abs=1e-6)
    assert from_pictures.auc > 0.7
    items = np.arange(data.catalog.n_items)
    kept = freeze(trained.model, data).item_features(stored, items, 5, cpu())
    with torch.no_grad():
        expected = stored.encode_items(data.gather(items)).numpy()
    np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-5)


def test_the_student_too(data: TrainingData) -> None:
    neighbours = torch.full((data.catalog.n_items, 1), -1)
    trained = distill(data, FROZEN, None, neighbours)
    own_half = Validator(data, Part.VALIDATION_STUDENT, FROZEN, cpu(), FROZEN.seed)
    assert trained.validation is not None
    assert own_half.quality(trained.model).auc == pytest.approx(trained.validation.auc, abs=1e-6)


def test_batch_norms_of_a_frozen_backbone_keep_their_statistics(data: TrainingData) -> None:
    settings = tiny_settings(
        teacher={"freeze_backbone": True, "epochs": 1, "backbone": "shufflenet_v2_x0_5"}
    )
    trained = train_teacher(data, settings)
    statistics = [
        tensor for name, tensor in trained.model.state_dict().items() if "running_mean" in name
    ]
    assert statistics
    assert all(bool((mean == 0).all()) for mean in statistics)


def test_many_features_lie_in_a_file_that_is_never_left_behind(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = freeze(xs(), data).kept
    monkeypatch.setattr(module, "MEMORY_BYTES", 1000)
    home = tmp_path / "home"
    in_file = freeze(xs(), data, FROZEN.model_copy(update={"home": home})).kept
    assert isinstance(in_file, np.memmap)
    assert not isinstance(in_memory, np.memmap)
    assert list(home.iterdir()) == []
    np.testing.assert_array_equal(in_file, in_memory)


def test_wide_features_are_kept_in_half_precision_and_without_flips_once(
    data: TrainingData,
) -> None:
    torch.manual_seed(0)
    model = OutfitRecommender("s", 6)
    settings = tiny_settings(teacher={"freeze_backbone": True, "flip": False})
    frozen = freeze(model, data, settings)
    assert frozen.kept.dtype == np.float16
    assert frozen.kept.shape == (data.catalog.n_items, 1, 9216)
    items = np.array([5, 1])
    with torch.no_grad():
        exact = model.backbone.trunk_features(data.gather(items))
    found = frozen.gather(items)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        next(model.backbone.trunk.parameters()).mul_(1e9)
    with pytest.raises(RecjobError, match="not finite as float16"):
        freeze(model, data, settings)


def test_items_in_quarantine_are_left_out_and_the_bar_moves(settings: Settings) -> None:
    data = colour_data(settings, colour_catalog(quarantined=(2, 9)))
    told: list[tuple[int, int, str]] = []

    def tell(done: int, total: int, note: str) -> None:
        told.append((done, total, note))

    options = FROZEN.model_copy(
        update={"embed": FROZEN.embed.model_copy(update={"batch_size": 10})}
    )
    model = xs()
    frozen = freeze_trunk(model, data, options, options.teacher, cpu(), Ranks(), tell)
    assert frozen is not None
    assert len(frozen.kept) == 16
    assert [(done, total) for done, total, _ in told] == [(10, 16), (16, 16)]
    last: Tensor = frozen.gather(np.array([17]))
    with torch.no_grad():
        expected = model.backbone.trunk_features(data.gather(np.array([17])))
    torch.testing.assert_close(last, expected)


def test_trainings_in_a_row_read_the_pictures_once(data: TrainingData) -> None:
    told: list[int] = []

    def freeze_and_tell(model: OutfitRecommender, data: TrainingData) -> FrozenFeatures:
        frozen = freeze_trunk(
            model, data, FROZEN, FROZEN.teacher, cpu(), Ranks(), lambda done, *_: told.append(done)
        )
        assert frozen is not None
        return frozen

    first = freeze_and_tell(xs(1), data)
    once = len(told)
    assert once > 0
    again = freeze_and_tell(xs(1), data)
    assert len(told) == once
    np.testing.assert_array_equal(again.kept, first.kept)
    other = freeze_and_tell(xs(2), data)  # other weights
    assert len(told) == 2 * once
    assert not np.array_equal(other.kept, first.kept)
    freeze_and_tell(xs(2), replace(data, pixels=data.pixels.copy()))  # perhaps other pictures
    assert len(told) == 3 * once


def test_nothing_is_frozen_unless_asked_for(data: TrainingData, settings: Settings) -> None:
    model = xs()
    assert freeze_trunk(model, data, settings, settings.teacher, cpu(), Ranks()) is None
    assert all(parameter.requires_grad for parameter in model.parameters())
