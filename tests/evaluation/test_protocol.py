"""Scores of lists are plain cosines, counts and chance; quality is the mean over users."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recjob.catalog.catalog import PADDING, Float32Array
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.split import Part
from recjob.evaluation import protocol
from recjob.evaluation.metrics import auc, ndcg, ndcg_mean
from recjob.evaluation.protocol import (
    metrics_per_user,
    model_scores,
    popularity_list_scores,
    quality,
    random_list_scores,
)
from recjob.inference.torch_engine import TorchEngine
from tests.catalog.shops import random_shop
from tests.inference.students import features, student

CATALOG = random_shop(np.random.default_rng(3), n_users=6, n_positives=90)
PARTS = np.random.default_rng(4).choice([0, 3], len(CATALOG.positives)).astype(np.int8)
LISTS = evaluation_lists(CATALOG, PARTS, Part.TEST, n_negatives=5, seed=1)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@torch.no_grad()
@pytest.mark.parametrize(("block", "batch_size"), [(65_536, 100), (13, 4)])
def test_scores_are_cosines(block: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "OUTFITS_PER_BLOCK", block)
    model = student()
    items = features(CATALOG.n_items)
    users = features(len(LISTS.user), seed=1)
    unit: Float32Array = (users / np.linalg.norm(users, axis=1, keepdims=True)).astype(np.float32)
    engine = TorchEngine(model, "cpu", bf16=False)
    found = model_scores(engine, items, unit, LISTS, batch_size)
    assert found.shape == LISTS.items.shape[:2]
    exact = model.double()
    for row in range(0, len(found), 3):
        for place, outfit in enumerate(LISTS.items[row]):
            own = torch.from_numpy(items[outfit[outfit != PADDING]]).double()[None]
            vector = exact.encode_outfits(own, torch.ones(own.shape[:2], dtype=torch.bool))[0]
            expected = cosine(torch.from_numpy(users[row]).double(), vector)
            assert float(found[row, place]) == pytest.approx(expected, abs=1e-5)


def test_vectors_that_are_not_normalised_scale_the_scores() -> None:
    """A newcomer's vector is shorter than 1 on purpose (Eq. 24)."""
    engine = TorchEngine(student(), "cpu", bf16=False)
    items, users = features(CATALOG.n_items), features(len(LISTS.user), seed=1)
    whole = model_scores(engine, items, users, LISTS, 64)
    half = model_scores(engine, items, users * np.float32(0.5), LISTS, 64)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-5)


def test_popularity_is_the_sum_of_training_counts() -> None:
    training = CATALOG.positives[PARTS == Part.TRAIN]
    counts = [0] * CATALOG.n_items
    for _, outfit in training:
        for item in CATALOG.outfit_items[outfit]:
            if item != PADDING:
                counts[item] += 1
    found = popularity_list_scores(CATALOG, training, LISTS)
    for scores, outfits in zip(found, LISTS.items, strict=True):
        for score, outfit in zip(scores, outfits, strict=True):
            assert score == sum(counts[item] for item in outfit if item != PADDING)


def test_random_scores_are_a_coin() -> None:
    users = np.repeat(np.arange(50, dtype=np.int32), 20)
    lists = EvaluationLists(users, np.zeros((1000, 11, 2), np.int32), 0)
    scores = random_list_scores(lists, seed=3)
    assert scores.shape == (1000, 11)
    found = quality(lists, scores)
    # The deviation of a user's AUC with 20 positives and 200 negatives is 0.07; of 50 users' 0.01.
    assert found.auc == pytest.approx(0.5, abs=0.04)
    assert (random_list_scores(lists, seed=3) == scores).all()
    assert (random_list_scores(lists, seed=4) != scores).any()


def test_quality_is_the_mean_over_users_of_their_pooled_lists() -> None:
    """Users count alike, however many lists they have."""
    scores: Float32Array = np.random.default_rng(5).random(LISTS.items.shape[:2], dtype=np.float32)
    scores[:, 0] += 0.3
    by_user = {int(user): scores[LISTS.user == user] for user in np.unique(LISTS.user)}
    assert len({len(rows) for rows in by_user.values()}) > 1
    for measure in (auc, ndcg_mean, ndcg):
        values = []
        for rows in by_user.values():
            labels = np.zeros(rows.shape, int)
            labels[:, 0] = 1
            values.append(measure(rows.ravel(), labels.ravel()))
        found = quality(LISTS, scores)
        assert getattr(found, measure.__name__) == pytest.approx(np.mean(values))
        assert (found.users, found.positives) == (len(by_user), len(LISTS.user))
    per_user = metrics_per_user(LISTS, scores)
    assert per_user.group.tolist() == sorted(by_user)
    assert found.as_dict() == {
        "auc": found.auc,
        "ndcg_mean": found.ndcg_mean,
        "ndcg": found.ndcg,
        "users": found.users,
        "positives": found.positives,
    }


def test_no_lists() -> None:
    empty = EvaluationLists(np.empty(0, np.int32), np.empty((0, 3, 2), np.int32), 0)
    with pytest.raises(ValueError, match="no scores"):
        quality(empty, np.empty((0, 3), np.float32))


def test_padding_does_not_count_as_an_item() -> None:
    """Index -1 would be the last item, the most popular here."""
    last = np.flatnonzero((CATALOG.outfit_items == CATALOG.n_items - 1).any(axis=1))
    training = np.stack([np.zeros_like(last), last], axis=1).astype(np.int32)
    items = np.array([[[0, 1, PADDING], [0, 1, 2]]], np.int32)
    used = CATALOG.outfit_items[last]
    expected = [sum(int((used == item).sum()) for item in row if item >= 0) for row in items[0]]
    lists = EvaluationLists(np.zeros(1, np.int32), items, 0)
    assert popularity_list_scores(CATALOG, training, lists)[0].tolist() == expected
