"""The teacher's words on negatives are Eq. 11 and 12, and its trunk runs once per picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recjob.catalog.catalog import PADDING, Int32Array
from recjob.catalog.negatives import RandomNegatives
from recjob.errors import RefusedError
from recjob.model.losses import false_negativeness
from recjob.model.recommender import OutfitRecommender, unit
from recjob.settings import ColdStartSettings, Settings, StudentSettings
from recjob.training.data import BatchSource, TrainingData
from recjob.training.teacher_scores import FrozenTeacher, TeacherScores, freeze_teacher
from tests.inference.students import naive_features, student
from tests.training.colours import colour_catalog, colour_data, cpu, tiny_settings

SEED = 2


def teacher_model() -> OutfitRecommender:
    model = student(seed=3)
    torch.manual_seed(4)
    model.users = nn.Embedding(6, 128)
    return model.eval()


def frozen(data: TrainingData, settings: Settings, ids: tuple[str, ...] = ()) -> FrozenTeacher:
    return freeze_teacher(teacher_model(), ids or data.catalog.user_ids, data, settings, cpu())


class Naive:
    """The same teacher in float64, one outfit at a time."""

    def __init__(self, data: TrainingData) -> None:
        model = teacher_model()
        self.features = torch.from_numpy(naive_features(model, data.pixels))
        self.model = model.double()

    @torch.no_grad()
    def vector(self, outfit: Int32Array | Tensor) -> Tensor:
        items = [int(item) for item in outfit if item != PADDING]
        mask = torch.ones(1, len(items), dtype=torch.bool)
        vector = self.model.encode_outfits(self.features[items][None], mask)[0]
        return unit(vector)

    def user(self, row: int) -> Tensor:
        vector = self.model.users.weight.detach()[row]
        return unit(vector)

    def score(self, row: int, outfit: Int32Array | Tensor) -> float:
        return float(self.user(row) @ self.vector(outfit))


@pytest.fixture(scope="module")
def naive(data: TrainingData) -> Naive:
    return Naive(data)


def test_scores_are_those_of_the_paper(
    data: TrainingData, settings: Settings, naive: Naive
) -> None:
    judge = TeacherScores(data, frozen(data, settings), cpu(), SEED)
    batch = next(BatchSource(data, 16, 1, 0.5, 1, 0).epoch(1))
    user_mean, negative = judge.of(batch)
    outfits = data.catalog.outfit_items
    for row, user in enumerate(batch.users.tolist()):
        own = [naive.score(user, outfits[o]) for u, o in data.training_positives if u == user]
        assert float(user_mean[row]) == pytest.approx(sum(own) / len(own), abs=1e-5)  # Eq. 11
        for place, outfit in enumerate(batch.negatives):
            expected = naive.score(user, outfit)
            assert float(negative[row, place]) == pytest.approx(expected, abs=1e-5)
    alpha = 1.5
    d = false_negativeness(user_mean, negative, alpha)
    naive_d = alpha * (float(user_mean[0]) - float(negative[0, 1]))  # Eq. 12
    assert float(d[0, 1]) == pytest.approx(naive_d, abs=1e-6)


def test_alpha_is_relative_to_the_gap(data: TrainingData, settings: Settings, naive: Naive) -> None:
    judge = TeacherScores(data, frozen(data, settings), cpu(), SEED)
    positives = data.training_positives
    draws = RandomNegatives(data.catalog, positives[:, 1])
    random = draws.draw(positives[:, 1], np.random.default_rng([SEED, 5]))
    own = [naive.score(u, data.catalog.outfit_items[o]) for u, o in positives]
    others = [naive.score(u, outfit) for (u, _), outfit in zip(positives, random, strict=True)]
    gap = float(np.mean(own) - np.mean(others))
    assert judge.gap == pytest.approx(gap, abs=1e-5)
    given = StudentSettings(alpha_relative=0, alpha=1.3)
    assert judge.alpha(given) == 1.3


def with_gap(data: TrainingData, settings: Settings, naive: Naive, sign: float) -> TeacherScores:
    """A teacher whose users point at their own positives, or away from them."""
    teacher = frozen(data, settings)
    vectors = torch.zeros(6, 128, dtype=torch.float64)
    for user, outfit in data.training_positives:
        vectors[user] += naive.vector(data.catalog.outfit_items[outfit])
    mean = vectors.mean(dim=0)
    users = unit(vectors - mean).numpy().astype(np.float32)
    return TeacherScores(
        data, FrozenTeacher(teacher.model, teacher.features, np.float32(sign) * users), cpu(), SEED
    )


def test_a_relative_alpha_makes_d_average_one_on_random_outfits(
    data: TrainingData, settings: Settings, naive: Naive
) -> None:
    judge = with_gap(data, settings, naive, 1)
    assert judge.gap > 0
    alpha = judge.alpha(StudentSettings(alpha_relative=2))
    assert alpha == pytest.approx(2 / judge.gap)
    judge = with_gap(data, settings, naive, 1)
    alpha = judge.alpha(StudentSettings(alpha_relative=1))
    for number in range(1, 7):
        for batch in BatchSource(data, 16, 1, 0.0, 1, 0).epoch(number):
            judge.count(false_negativeness(*judge.of(batch), alpha), number)
    assert judge.notes(alpha)["mean_d"] == pytest.approx(1, abs=0.25)


def test_a_teacher_that_cannot_tell_is_refused(
    data: TrainingData, settings: Settings, naive: Naive
) -> None:
    judge = with_gap(data, settings, naive, -1)
    with pytest.raises(RefusedError, match=r"as high as positives \(gap -.*train it longer"):
        judge.alpha(StudentSettings())
    assert judge.alpha(StudentSettings(alpha_relative=0)) == StudentSettings().alpha
    assert judge.alpha(StudentSettings(loss="n-pair")) > 0


def test_notes(data: TrainingData, settings: Settings) -> None:
    judge = TeacherScores(data, frozen(data, settings), cpu(), SEED)
    judge.count(torch.tensor([[1.0, -1.0], [2.0, 3.0]]), 1)
    judge.count(torch.tensor([-0.5]), 2)
    notes = judge.notes(4.0)
    assert notes == {
        "teacher_gap": judge.gap,
        "alpha": 4.0,
        "mean_d": pytest.approx(4.5 / 5),
        "final_mean_d": -0.5,
        "share_d_below_zero": 2 / 5,
    }


def test_the_trunk_runs_once_per_picture(data: TrainingData, settings: Settings) -> None:
    model = teacher_model()
    pictures: list[int] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pictures.append(len(inputs[0]))

    told: list[int] = []
    with model.backbone.register_forward_pre_hook(remember):
        teacher = freeze_teacher(model, data.catalog.user_ids, data, settings, cpu(), told.append)
        judge = TeacherScores(data, teacher, cpu(), SEED)
        for batch in BatchSource(data, 16, 1, 0.0, 1, 0).epoch(1):
            assert not judge.of(batch)[1].requires_grad
    assert sum(pictures) == data.catalog.n_items == sum(told)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_items_in_quarantine_have_no_features(settings: Settings) -> None:
    data = colour_data(settings, colour_catalog(quarantined=(3, 9)))
    features = frozen(data, settings).features
    assert np.flatnonzero(~features.any(axis=1)).tolist() == [3, 9]


def test_users_are_found_by_their_ids(data: TrainingData, settings: Settings, naive: Naive) -> None:
    ids = data.catalog.user_ids
    order = [4, 2, 0, 5, 1, 3]
    vectors = frozen(data, settings, tuple(ids[user] for user in order)).user_vectors
    expected = torch.stack([naive.user(order.index(user)) for user in range(6)])
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("strategy", ["w-avg", "avg"])
def test_users_unknown_to_the_teacher_get_cold_start_vectors(
    data: TrainingData, strategy: str, naive: Naive
) -> None:
    settings = tiny_settings(cold_start={"strategy": strategy, "threshold": 0.02})
    cold: ColdStartSettings = settings.cold_start
    ids = ("gone", *data.catalog.user_ids[2:], "other")  # rows 1 to 4 are users 2 to 5
    vectors = frozen(data, settings, ids).user_vectors
    known = [naive.user(row) for row in range(6)]  # those who left are neighbours too
    for user in (0, 1):
        own = [
            naive.vector(data.catalog.outfit_items[outfit])
            for owner, outfit in data.training_positives
            if owner == user
        ]
        near = [float(sum(o @ u for o in own)) / len(own) for u in known]  # Eq. 20
        best = max(near)
        weights = [
            (math.exp(s / cold.temperature) if strategy == "w-avg" else 1.0)
            * (s > cold.threshold or s == best)
            for s in near
        ]
        expected = sum(
            (w * u for w, u in zip(weights, known, strict=True)), torch.zeros(128).double()
        ) / sum(weights)
        np.testing.assert_allclose(vectors[user], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(vectors[2], known[1].numpy(), atol=1e-6)
