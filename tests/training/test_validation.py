"""Validation scores are the plain ones, and leave the model as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recjob.catalog.catalog import PADDING
from recjob.catalog.split import Part
from recjob.evaluation.metrics import auc, ndcg_mean
from recjob.model.recommender import OutfitRecommender
from recjob.settings import Settings
from recjob.training.data import TrainingData
from recjob.training.validation import Validator
from tests.inference.students import student
from tests.training.colours import colour_catalog, colour_data, cpu, tiny_settings


def model_of(n_users: int) -> OutfitRecommender:
    model = student()
    torch.manual_seed(1)
    model.users = torch.nn.Embedding(n_users, 128)
    return model


@torch.no_grad()
def test_quality_is_that_of_plain_scores(settings: Settings) -> None:
    """Also where a user has no row in the model, and the rows of later users are shifted."""
    catalog = colour_catalog()
    few = (catalog.positives[:, 0] != 1) | (np.arange(len(catalog.positives)) % 6 == 0)
    data = colour_data(settings, replace(catalog, positives=catalog.positives[few]))
    assert data.users.tolist() == [0, 2, 3, 4, 5]
    model = model_of(5).eval()
    validator = Validator(data, Part.VALIDATION_TEACHER, settings, cpu(), seed=4)
    scores: dict[int, list[float]] = {}
    labels: dict[int, list[int]] = {}
    for user, outfits in zip(validator.lists.user, validator.lists.items, strict=True):
        for place, outfit in enumerate(outfits):
            items = outfit[outfit != PADDING].astype(np.int64)
            pixels = data.gather(items)[None]
            row = torch.tensor([data.model_row[user]])
            score = model(row, pixels, torch.ones(1, len(items), dtype=torch.bool))
            scores.setdefault(int(user), []).append(float(score))
            labels.setdefault(int(user), []).append(int(place == 0))
    found = validator.quality(model)
    assert found.users == len(scores)
    assert found.positives == len(validator.lists.user)
    assert found.auc == pytest.approx(np.mean([auc(scores[u], labels[u]) for u in scores]))
    assert found.ndcg_mean == pytest.approx(
        np.mean([ndcg_mean(scores[u], labels[u]) for u in scores])
    )


def test_teacher_and_student_validate_on_different_positives(
    data: TrainingData, settings: Settings
) -> None:
    halves = [
        Validator(data, part, settings, cpu(), seed=0).lists
        for part in (Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT)
    ]
    pairs = [
        {
            (int(user), frozenset(int(item) for item in outfits[0] if item != PADDING))
            for user, outfits in zip(lists.user, lists.items, strict=True)
        }
        for lists in halves
    ]
    assert pairs[0]
    assert pairs[1]
    assert not pairs[0] & pairs[1]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_weights_stay(
    data: TrainingData, settings: Settings, training: bool
) -> None:
    model = model_of(6).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validator = Validator(data, Part.VALIDATION_TEACHER, settings, cpu(), seed=0)
    first, second = validator.quality(model), validator.quality(model)
    assert first == second
    assert model.training == training
    assert model.backbone.training == training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_at_most_so_many_positives(data: TrainingData) -> None:
    few = tiny_settings(evaluation={"max_validation_positives": 3, "negatives_per_positive": 2})
    lists = Validator(data, Part.VALIDATION_TEACHER, few, cpu(), seed=0).lists
    assert lists.items.shape == (3, 3, 4)


def test_hard_lists_where_the_settings_ask(data: TrainingData) -> None:
    """All their negatives are other users' positives; of random ones, hardly any is."""
    catalog = data.catalog
    liked = {frozenset(items.tolist()) for items in catalog.outfit_items[catalog.positives[:, 1]]}
    shares = {}
    for kind in ("random", "hard"):
        chosen = tiny_settings(evaluation={"negatives": kind, "negatives_per_positive": 2})
        lists = Validator(data, Part.VALIDATION_TEACHER, chosen, cpu(), seed=0).lists
        negatives = lists.items[:, 1:].reshape(-1, lists.items.shape[2])
        assert len(negatives) > 0
        shares[kind] = np.mean([frozenset(items.tolist()) in liked for items in negatives])
    assert shares["hard"] == 1
    assert shares["random"] < 0.5


def test_an_empty_part() -> None:
    settings = tiny_settings(split={"validation": 0})
    validator = Validator(colour_data(settings), Part.VALIDATION_TEACHER, settings, cpu(), seed=0)
    assert validator.empty
