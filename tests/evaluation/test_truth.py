"""d of Eq. 12 equals plain loops, and its hits a count by hand."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from recjob.catalog.catalog import PADDING, Float32Array, Int32Array
from recjob.evaluation import truth
from recjob.evaluation.bootstrap import Bootstrap
from recjob.evaluation.truth import (
    Judged,
    TeacherView,
    held_out_lift,
    hits,
    judge,
    judge_random_outfits,
)
from recjob.inference.embedding import unit
from recjob.inference.torch_engine import TorchEngine
from tests.catalog.shops import item_set, random_shop
from tests.inference.students import features, student

CATALOG = random_shop(np.random.default_rng(3), n_users=7, n_positives=90)
TRAINING = CATALOG.positives[::2]
ROW = np.array([2, 0, -1, 1, 3, 4, 5], np.int32)  # user 2 has no vector
BOOTSTRAP = Bootstrap(200, 0.9, seed=1)


@cache
def teacher() -> TeacherView:
    engine = TorchEngine(student(), "cpu", bf16=False)
    return TeacherView(engine, features(CATALOG.n_items), unit(features(6, seed=1)), ROW)


def naive_score(view: TeacherView, user: int, outfit: Int32Array) -> float:
    items = outfit[outfit != PADDING]
    [vector] = view.engine.encode_outfits(
        view.features[items][None], np.ones((1, len(items)), np.bool_)
    )
    return float(view.user_vectors[ROW[user]] @ (vector / np.linalg.norm(vector)))


def judged(margins: list[float], users: list[int]) -> Judged:
    margin: Float32Array = np.array(margins, np.float32)
    items = np.zeros((len(users), 1), np.int32)
    return Judged(np.array(users, np.int32), items, -margin, margin)


@pytest.mark.parametrize("block", [7, 65_536])
def test_scores_and_margins_equal_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "OUTFITS_PER_BLOCK", block)
    view = teacher()
    users = np.array([0, 5, 1, 1, 6], np.int32)
    outfits = CATALOG.outfit_items[[3, 9, 9, 20, 0]]
    found = judge(view, CATALOG, TRAINING, users, outfits, batch_size=8)
    for place, user in enumerate(users):
        own = [naive_score(view, user, CATALOG.outfit_items[o]) for u, o in TRAINING if u == user]
        score = naive_score(view, user, outfits[place])
        assert found.score[place] == pytest.approx(score, abs=1e-5)
        assert found.margin[place] == pytest.approx(np.mean(own) - score, abs=1e-5)
    assert found.gap == pytest.approx(found.margin.mean())


@pytest.mark.parametrize("user", [2, 4])
def test_users_without_d(user: int) -> None:
    training = TRAINING[TRAINING[:, 0] != 4]
    users = np.array([0, user], np.int32)
    with pytest.raises(ValueError, match="has no d"):
        judge(teacher(), CATALOG, training, users, CATALOG.outfit_items[:2], 8)


def test_random_outfits_are_those_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "NEGATIVES_PER_USER", 8)
    found = judge_random_outfits(teacher(), CATALOG, TRAINING, seed=1, batch_size=64)
    trained = {int(user) for user in TRAINING[:, 0]} - {2}
    assert np.bincount(found.users, minlength=7).tolist() == [
        8 * (user in trained) for user in range(7)
    ]
    kept = TRAINING[TRAINING[:, 0] != 2]
    positives = {item_set(CATALOG.outfit_items[outfit]) for outfit in kept[:, 1]}
    worn = set().union(*positives)
    for row in found.items:
        assert item_set(row) <= worn
        assert item_set(row) not in positives
    again = judge_random_outfits(teacher(), CATALOG, TRAINING, seed=1, batch_size=64)
    assert (again.items == found.items).all()
    monkeypatch.setattr(truth, "MOST_NEGATIVES", 15)
    fewer = judge_random_outfits(teacher(), CATALOG, TRAINING, seed=1, batch_size=64)
    assert len(fewer.users) == 15 // len(trained) * len(trained)


def test_hits_by_hand() -> None:
    found = hits(
        judged([-0.2, -0.1, 0.3, 0.4, 0.5, -0.3, 0.1, 0.2, 0.6, 0.7], [4] * 5 + [9] * 5),
        np.array([True, False, True, False, False, True, False, False, False, True]),
        alpha=2.0,
        bootstrap=BOOTSTRAP,
    )
    assert (found.users, found.negatives) == (2, 10)
    assert found.base_rate == pytest.approx(0.4)
    assert found.below_zero == pytest.approx(0.3)
    assert found.hit_rate == pytest.approx(2 / 3)
    assert found.lift == pytest.approx(2 / 3 / 0.4)
    assert found.recall == pytest.approx(2 / 4)
    # Resampled users are both of 4, both of 9, or one of each.
    assert found.lift_interval == pytest.approx((0.5 / 0.4, 1 / 0.4))
    assert [decile.liked for decile in found.deciles] == [1, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    lowest = [decile.lowest_d for decile in found.deciles]
    assert lowest == pytest.approx([-0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4])


def test_deciles_of_many() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(size=1000)
    liked = rng.random(1000) < 1 / (1 + np.exp(3 * margin))
    found = hits(judged(margin.tolist(), [1] * 1000), liked, 1.0, Bootstrap(0, 0.9, seed=0))
    assert found.lift_interval is None
    rates = [decile.liked for decile in found.deciles]
    assert len(rates) == 10
    assert rates[0] > 0.9 > 0.1 > rates[-1]
    assert np.mean(rates) == pytest.approx(liked.mean())
    for lower, upper in zip(found.deciles, found.deciles[1:], strict=False):
        assert lower.lowest_d <= lower.highest_d <= upper.lowest_d


@pytest.mark.parametrize("margins", [[0.1, 0.2], [-0.1, -0.2]])
def test_what_has_no_answer_is_none(margins: list[float]) -> None:
    found = hits(judged(margins, [0, 1]), np.zeros(2, np.bool_), 1.0, BOOTSTRAP)
    assert (found.lift, found.lift_interval, found.recall) == (None, None, None)
    assert (found.hit_rate is None) == (margins[0] > 0)
    with pytest.raises(ValueError, match="no outfit"):
        hits(judged([], []), np.zeros(0, np.bool_), 1.0, BOOTSTRAP)


def test_held_out_lift_by_hand() -> None:
    random = judged([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0] * 4 + [1] * 4)
    posted = judged([-0.1, -0.2, 0.3, -0.4], [0, 0, 1, 1])
    found = held_out_lift(random, posted, BOOTSTRAP)
    assert found.positives == 4
    assert found.held_out_below_zero == 0.75
    assert found.random_below_zero == 0.125
    assert found.lift == pytest.approx(6)
    # User 1 alone has no random outfit with d < 0: such resamplings have no lift.
    assert found.lift_interval == pytest.approx((4, 6), abs=0.01)
    nothing = judged([], [])
    with pytest.raises(ValueError, match="needed"):
        held_out_lift(random, nothing, BOOTSTRAP)


def test_both_lifts_agree_where_posts_are_a_fair_sample() -> None:
    """Bayes: users post a fifth of what they like, and d follows a noisy view of the truth."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(200), 1000)
    taste = rng.normal(size=users.size)
    liked = taste > 1.7
    margin = 1.5 - (taste + rng.normal(0, 0.6, users.size))
    posted = liked & (rng.random(users.size) < 0.2)
    everything = judged(margin.tolist(), users.tolist())
    posts = judged(margin[posted].tolist(), users[posted].tolist())
    known = hits(everything, liked, 1.0, BOOTSTRAP)
    estimated = held_out_lift(everything, posts, BOOTSTRAP)
    assert known.lift is not None
    assert known.lift > 4
    assert estimated.lift == pytest.approx(known.lift, rel=0.05)
    assert estimated.lift_interval is not None
    assert estimated.lift_interval[0] < known.lift < estimated.lift_interval[1]
