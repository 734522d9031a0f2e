"""Cold-start evaluation equals a loop over newcomers that is written down plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int32Array
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.split import Part
from recjob.evaluation import cold_start
from recjob.evaluation.cold_start import ColdStartProtocol, cold_start_quality
from recjob.evaluation.metrics import auc
from recjob.inference.torch_engine import TorchEngine
from tests.catalog.shops import random_shop
from tests.inference.students import features, student

PROTOCOL = ColdStartProtocol(
    shown=(1, 3),
    draws=4,
    n_negatives=5,
    threshold=0.02,
    temperature=0.2,
    seed=9,
    batch_size=64,
)


def shop() -> tuple[Catalog, Int32Array]:
    """Newcomers with 1 to 9 outfits, among others; none of them is the first or the last user."""
    catalog = random_shop(np.random.default_rng(2), n_users=14, n_positives=90)
    counts = np.bincount(catalog.positives[:, 0], minlength=14)
    rank = np.zeros(len(catalog.positives), int)
    for user in range(14):
        rank[catalog.positives[:, 0] == user] = np.arange(counts[user])
    cold = np.array([2, 3, 5, 7, 8, 11], np.int32)
    most = {2: 1, 3: 2, 5: 3, 7: 4}
    keep = [rank[i] < most.get(int(user), 99) for i, user in enumerate(catalog.positives[:, 0])]
    return replace(catalog, positives=catalog.positives[keep]), cold


CATALOG, COLD = shop()
USERS = features(20, seed=5)
ITEMS = features(CATALOG.n_items, seed=6)


def vector(engine: TorchEngine, outfit: Int32Array) -> Float32Array:
    items = outfit[outfit != PADDING]
    found = engine.encode_outfits(ITEMS[items][None], np.ones((1, len(items)), np.bool_))[0]
    unit: Float32Array = found / np.linalg.norm(found)
    return unit


def newcomers_vector(own: list[Float32Array], strategy: str) -> Float32Array:
    """Eq. 20 to 24."""
    users = USERS / np.linalg.norm(USERS, axis=1, keepdims=True)
    near = [float(np.mean([user @ outfit for outfit in own])) for user in users]
    weights = [
        (math.exp(s / PROTOCOL.temperature) if strategy == "w-avg" else 1.0)
        * (s > PROTOCOL.threshold or s == max(near))
        for s in near
    ]
    total = sum(w * user for w, user in zip(weights, users, strict=True)) / sum(weights)
    return np.asarray(total, np.float32)


def naive(shown: int, strategy: str) -> tuple[float, float, int]:
    """Mean AUC, its deviation over draws, and the newcomers, one list at a time."""
    engine = TorchEngine(student(), "cpu", bf16=False)
    parts = np.where(np.isin(CATALOG.positives[:, 0], COLD), Part.TEST, Part.TRAIN).astype(np.int8)
    lists = evaluation_lists(CATALOG, parts, Part.TEST, PROTOCOL.n_negatives, PROTOCOL.seed, COLD)
    rows_of = {int(user): np.flatnonzero(lists.user == user) for user in np.unique(lists.user)}
    enough = [user for user in sorted(rows_of) if len(rows_of[user]) > shown]
    kept = np.concatenate([rows_of[user] for user in enough])
    kept.sort()
    owner = np.array([enough.index(user) for user in lists.user[kept]])
    means = []
    for draw in range(PROTOCOL.draws):
        keys = np.random.default_rng([PROTOCOL.seed, 17, shown, draw]).random(len(kept))
        aucs = []
        for place in range(len(enough)):
            own = np.flatnonzero(owner == place)
            own = own[np.argsort(keys[own])]
            profile = [vector(engine, lists.items[kept[row], 0]) for row in own[:shown]]
            newcomer = newcomers_vector(profile, strategy)
            scores, labels = [], []
            for row in own[shown:]:
                for number, outfit in enumerate(lists.items[kept[row]]):
                    scores.append(float(newcomer @ vector(engine, outfit)))
                    labels.append(int(number == 0))
            aucs.append(auc(scores, labels))
        means.append(np.mean(aucs))
    return float(np.mean(means)), float(np.std(means)), len(enough)


def test_it_equals_the_plain_loop() -> None:
    engine = TorchEngine(student(), "cpu", bf16=False)
    results = cold_start_quality(engine, ITEMS, USERS, CATALOG, COLD, PROTOCOL)
    assert [(result.outfits, result.strategy) for result in results] == [
        (1, "avg"),
        (1, "w-avg"),
        (3, "avg"),
        (3, "w-avg"),
    ]
    for result in results:
        mean, deviation, users = naive(result.outfits, result.strategy)
        assert result.users == users
        assert result.draws == 4
        assert result.auc == pytest.approx(mean, abs=1e-6)
        assert result.auc_deviation == pytest.approx(deviation, abs=1e-6)
    # One newcomer has one outfit, others up to three: nothing is left to rank for them.
    assert [result.users for result in results] == [5, 5, 3, 3]


def test_nobody_has_enough() -> None:
    engine = TorchEngine(student(), "cpu", bf16=False)
    few = np.array([2], np.int32)
    assert cold_start_quality(engine, ITEMS, USERS, CATALOG, few, PROTOCOL) == []


def test_the_same_seed_gives_the_same_draws() -> None:
    engine = TorchEngine(student(), "cpu", bf16=False)
    once, again = (
        cold_start_quality(engine, ITEMS, USERS, CATALOG, COLD, PROTOCOL) for _ in range(2)
    )
    assert once == again


def test_blocks_of_newcomers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(student(), "cpu", bf16=False)
    whole = cold_start_quality(engine, ITEMS, USERS, CATALOG, COLD, PROTOCOL)
    # A list has 6 outfits: a newcomer at a time, and two or three.
    for most in (1, 40):
        monkeypatch.setattr(cold_start, "OUTFITS_PER_BLOCK", most)
        assert cold_start_quality(engine, ITEMS, USERS, CATALOG, COLD, PROTOCOL) == whole


@pytest.mark.parametrize("most", [1, 11, 22, 33, 44, 1000])
def test_blocks_hold_whole_newcomers(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "OUTFITS_PER_BLOCK", most)
    user = np.repeat(np.array([3, 4, 7, 9], np.int32), [1, 3, 2, 1])
    lists = EvaluationLists(user, np.zeros((7, 11, 2), np.int32), 0)
    blocks = list(cold_start._blocks(lists))
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert blocks[-1].stop == 7
    for block in blocks:
        inside = user[block]
        assert not np.isin(np.delete(user, block), inside).any()
        assert inside.size * 11 <= most or np.unique(inside).size == 1


def test_users_who_resemble_the_newcomers_help() -> None:
    """A known user whose vector is a newcomer's liking ranks that newcomer's other outfits."""
    engine = TorchEngine(student(), "cpu", bf16=False)
    # Newcomer 8 likes what is near one direction, newcomer 11 the opposite: draw their outfits so.
    vectors = np.stack([vector(engine, outfit) for outfit in CATALOG.outfit_items])
    centred = vectors - vectors.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(centred @ direction)
    pairs = [(8, outfit) for outfit in order[-8:]] + [(11, outfit) for outfit in order[:8]]
    rest = CATALOG.positives[~np.isin(CATALOG.positives[:, 0], COLD)]
    everything = np.concatenate([rest, np.array(pairs, np.int32)])
    catalog = replace(CATALOG, positives=everything[np.lexsort(everything.T[::-1])])
    users = np.stack([direction, -direction]).astype(np.float32)
    results = cold_start_quality(
        engine, ITEMS, users, catalog, np.array([8, 11], np.int32), PROTOCOL
    )
    assert all(result.users == 2 for result in results)
    assert {result.outfits: result.auc for result in results}[3] > 0.75


def test_draws_take_so_many_of_every_owner() -> None:
    owner = np.array([2, 0, 0, 1, 1, 1, 2, 2, 2, 0])
    seen = np.zeros(owner.size)
    for seed in range(40):
        profile = cold_start._draw(owner, 2, np.random.default_rng(seed))
        assert np.bincount(owner[profile]).tolist() == [2, 2, 2]
        seen += profile
    assert (seen > 0).all()
    assert (seen < 40).all()


def test_who_has_more_than_is_shown() -> None:
    lists = EvaluationLists(np.array([4, 4, 6], np.int32), np.zeros((3, 2, 1), np.int32), 5)
    assert cold_start._with_more_than(lists, 1).tolist() == [True, True, False]
