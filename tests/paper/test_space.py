"""Who Figure 8 shows and which negatives are false, against naive loops."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.catalog.catalog import Int32Array
from recjob.catalog.split import Part
from recjob.errors import DataError, UserError
from recjob.inference.embedding import unit
from recjob.paper import space as module
from recjob.paper.space import (
    JudgedNegatives,
    plane,
    positive_means,
    separated_users,
    shown_negatives,
    user_outfit_space,
)
from recjob.training.data import TrainingData
from tests.catalog.shops import item_set
from tests.training.colours import colour_catalog, colour_data, is_red, tiny_settings


def units(rng: np.random.Generator, n: int, d: int = 6) -> NDArray[np.float32]:
    return unit(rng.normal(size=(n, d)).astype(np.float32))


def test_mean_score_of_positives_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    users, outfits = units(rng, 4), units(rng, 9)
    owner = np.array([0, 2, 2, 3, 0, 3, 3, 2, 0])
    expected = [
        np.mean([users[user] @ outfits[row] for row in range(9) if owner[row] == user] or [0.0])
        for user in range(4)
    ]
    np.testing.assert_allclose(positive_means(users, outfits, owner), expected, atol=1e-6)


def test_users_are_far_apart_and_have_positives() -> None:
    rng = np.random.default_rng(1)
    vectors = units(rng, 12)
    means = np.linspace(0.2, 0.4, 12, dtype=np.float32)
    counts = np.full(12, 30)
    counts[9] = 3
    chosen = separated_users(vectors, means, counts, 2, 20)
    # Candidates: the half with the largest means of those with enough positives.
    known = [5, 6, 7, 8, 10, 11]
    pairs = {
        pair: float(vectors[pair[0]] @ vectors[pair[1]])
        for pair in itertools.combinations(known, 2)
    }
    assert tuple(chosen) == min(pairs, key=lambda pair: pairs[pair])
    three = separated_users(vectors, means, counts, 3, 20)
    assert set(chosen) < set(three)
    (third,) = set(three) - set(chosen)
    nearest = {user: max(float(vectors[user] @ vectors[one]) for one in chosen) for user in known}
    assert nearest[third] == min(nearest[user] for user in known if user not in chosen)


def test_users_with_fewer_positives_come_in_where_they_must() -> None:
    vectors = units(np.random.default_rng(2), 5)
    means = np.zeros(5, np.float32)
    counts = np.array([50, 4, 6, 0, 5])
    assert set(separated_users(vectors, means, counts, 3, 40)) == {0, 2, 4}
    assert separated_users(vectors, means, counts, 1, 40).tolist() == [0]
    with pytest.raises(DataError, match=r"paper\.figure8_users"):
        separated_users(vectors, means, counts, 5, 40)


def test_negatives_shown_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    n_users, n_random, n_test = 3, 60, 12
    d = rng.normal(size=(n_users, n_random + n_test)).astype(np.float32)
    in_test = np.zeros_like(d, dtype=np.bool_)
    for row in range(n_test):
        in_test[row % n_users, n_random + row] = True
    empty = np.zeros((n_random + n_test, 1), np.float32)
    judged = JudgedNegatives(empty.astype(np.int32), empty, d, d, in_test)
    shown = shown_negatives(judged, n_random, n_nearest=6, n_others=4)
    expected: set[int] = set()
    for user in range(n_users):
        order = sorted(range(n_random + n_test), key=lambda row: d[user, row])
        test = [row for row in order if in_test[user, row] and d[user, row] < 0][:2]
        random = [row for row in order if row < n_random][: 6 - len(test)]
        expected |= {*test, *random, *range(user * 20, user * 20 + 4)}
    assert shown.tolist() == sorted(expected)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return colour_data(tiny_settings(), colour_catalog(per_user=30))


def redness(data: TrainingData, outfits: Int32Array) -> NDArray[np.float32]:
    """(n, 3): a teacher that sees how red an outfit is, and a little else."""
    real = outfits >= 0
    red = (is_red(outfits) & real).sum(axis=1) / real.sum(axis=1)
    other = np.where(real, outfits, 0).sum(axis=1) % 7 / 20
    return unit(np.stack([red, 1 - red, other], axis=1).astype(np.float32))


def test_the_space_of_a_shop_whose_answer_is_known(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANDIDATES", 40)
    likes_red = np.arange(data.users.size) % 2 == 0
    users = np.stack([likes_red, ~likes_red, 0 * likes_red], axis=1).astype(np.float32)
    space = user_outfit_space(data, lambda rows: redness(data, rows), users, 2, 10, 6, 1.0, seed=0)
    # One who likes red, one who likes blue, each with ten training positives.
    assert (space.users % 2).tolist() in ([0, 1], [1, 0])
    assert np.bincount(space.owner).tolist() == [10, 10]
    catalog = data.catalog
    liked = {
        part: {
            (int(user), item_set(catalog.outfit_items[outfit]))
            for user, outfit in data.positives_of(part)
        }
        for part in (Part.TRAIN, Part.TEST)
    }
    for row, owner in zip(space.positives, space.owner, strict=True):
        assert (int(space.users[owner]), item_set(row)) in liked[Part.TRAIN]
    # Every verdict, against Eq. 11 and 12 written out.
    judged = space.candidates
    for place, user in enumerate(space.users):
        own = [outfit for one, outfit in data.training_positives if one == user]
        vectors = redness(data, catalog.outfit_items[own])
        mean = np.mean([vector @ users[data.model_row[user]] for vector in vectors])
        for row, items in enumerate(judged.items):
            score = redness(data, items[None])[0] @ users[data.model_row[user]]
            assert judged.d[place, row] == pytest.approx(space.alpha * (mean - score), abs=1e-5)
            key = (int(user), item_set(items))
            assert judged.in_test[place, row] == (key in liked[Part.TEST])
            assert row >= 80 or key not in liked[Part.TRAIN]
    # d is 1 on average over random outfits.
    assert judged.d[:, :80].mean() == pytest.approx(1, abs=1e-5)
    assert len(space.negative_xy) == len(space.negatives.items) <= 20


def test_t_sne_keeps_groups_together_and_lies_wide() -> None:
    rng = np.random.default_rng(4)
    centres = units(rng, 3, 16)
    group = np.repeat(np.arange(3), 15)
    vectors = unit(centres[group] + rng.normal(0, 0.05, (45, 16)).astype(np.float32))
    xy = plane(vectors, seed=0)
    np.testing.assert_array_equal(xy, plane(vectors, seed=0))
    assert np.ptp(xy[:, 0]) >= np.ptp(xy[:, 1]) * 0.8
    assert xy[:, 0].var() >= xy[:, 1].var()
    distance = np.linalg.norm(xy[:, None] - xy, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()


def test_t_sne_of_very_few_points() -> None:
    assert plane(units(np.random.default_rng(5), 4), seed=0).shape == (4, 2)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"recjob\[paper\]"):
        plane(units(np.random.default_rng(6), 4), seed=0)


def test_a_test_positive_of_another_user_is_none_of_this_one(data: TrainingData) -> None:
    users = np.eye(data.users.size, 3, dtype=np.float32) + np.float32(0.1)
    few = replace(data, parts=np.where(data.parts == Part.TEST, Part.TRAIN, data.parts))
    found = user_outfit_space(few, lambda rows: redness(few, rows), unit(users), 2, 4, 2, 1.0, 0)
    assert not found.candidates.in_test.any()  # nothing is held out here
