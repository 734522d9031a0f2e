"""Measures of lists equal plain loops and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recjob.catalog.catalog import PADDING, Float32Array
from recjob.evaluation import full_ranking
from recjob.evaluation.full_ranking import (
    diversity,
    list_quality,
    outfit_surprises,
    random_lists,
    recall,
)
from recjob.inference.embedding import unit

LISTS = np.array([[4, 2, 7], [2, 9, -1], [-1, -1, -1], [5, 4, 3]])
HELD_OUT = np.array([[0, 7], [0, 8], [0, 4], [0, 1], [1, 9], [3, 0]])


def unit_vectors(n: int) -> Float32Array:
    return unit(np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32))


def test_recall_by_hand() -> None:
    found = recall(LISTS, HELD_OUT, 10)
    np.testing.assert_array_equal(found, [0.5, 1.0, np.nan, 0.0])


def test_recall_equals_a_loop() -> None:
    rng = np.random.default_rng(2)
    lists = np.stack([rng.permutation(50)[:6] for _ in range(30)])
    pairs = np.unique(rng.integers(0, (30, 50), (400, 2)), axis=0)
    for user, value in enumerate(recall(lists, pairs, 50)):
        own = set(pairs[pairs[:, 0] == user, 1].tolist())
        assert value == pytest.approx(len(own & set(lists[user].tolist())) / len(own))


@pytest.mark.parametrize("cells", [1, 2**22])
def test_diversity_equals_a_loop_over_pairs(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_ranking, "CELLS_PER_BLOCK", cells)
    vectors = unit_vectors(10)
    for row, value in zip(LISTS, diversity(LISTS, vectors), strict=True):
        real = [outfit for outfit in row if outfit >= 0]
        if len(real) < 2:
            assert math.isnan(value)
            continue
        cosines = [float(vectors[a] @ vectors[b]) for a, b in itertools.combinations(real, 2)]
        assert value == pytest.approx(1 - np.mean(cosines), abs=1e-6)


def test_diversity_of_equal_and_of_opposite_outfits() -> None:
    vectors = np.array([[1, 0], [1, 0], [-1, 0], [0, 1]], np.float32)
    found = diversity(np.array([[0, 1], [0, 2], [0, 3]]), vectors)
    np.testing.assert_allclose(found, [0, 2, 1], atol=1e-7)


def test_surprise_by_hand() -> None:
    # Counts 6, 1, 0, 5 with one added to each: 7, 2, 1, 6 of 16.
    items = np.array([[0, 1, PADDING], [2, PADDING, PADDING], [1, 2, 3]], np.int32)
    found = outfit_surprises(items, np.array([6, 1, 0, 5]))
    bits = [-math.log2(share / 16) for share in (7, 2, 1, 6)]
    expected = [(bits[0] + bits[1]) / 2, bits[2], sum(bits[1:]) / 3]
    np.testing.assert_allclose(found, expected)
    assert found[1] == 4


def test_all_four() -> None:
    candidates = np.ones(10, np.bool_)
    candidates[[0, 1]] = False
    surprise = np.arange(10.0)
    found = list_quality(LISTS, HELD_OUT, candidates, surprise, unit_vectors(10))
    assert found.coverage == 6 / 8  # 2, 3, 4, 5, 7, 9
    assert found.novelty_bits == np.mean([4, 2, 7, 2, 9, 5, 4, 3])
    np.testing.assert_array_equal(found.recall, recall(LISTS, HELD_OUT, 10))
    np.testing.assert_array_equal(found.diversity, diversity(LISTS, unit_vectors(10)))


def test_nobody_has_a_list() -> None:
    nothing = np.full((2, 3), -1)
    found = list_quality(
        nothing, HELD_OUT[:1], np.zeros(10, np.bool_), np.ones(10), unit_vectors(10)
    )
    assert found.coverage == 0
    assert math.isnan(found.novelty_bits)
    assert np.isnan(found.diversity).all()


@pytest.mark.parametrize("cells", [1, 2**22])
def test_random_lists(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_ranking, "CELLS_PER_BLOCK", cells)
    rng = np.random.default_rng(0)
    candidates = rng.random(60) < 0.7
    excluded = rng.random((800, 60)) < rng.random((800, 1)) * 0.8
    rows, indices = np.nonzero(excluded)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=800))])
    lists = random_lists(800, 5, candidates, (indptr, indices), seed=1)
    for user, row in enumerate(lists):
        allowed = np.flatnonzero(candidates & ~excluded[user])
        real = row[row >= 0]
        assert len(set(real.tolist())) == len(real) == min(5, len(allowed))
        assert np.isin(real, allowed).all()
        assert (row[len(real) :] == -1).all()


def test_random_lists_hold_every_candidate_alike() -> None:
    candidates = np.ones(40, np.bool_)
    nothing = np.zeros(20_001, np.int64), np.zeros(0, np.int64)
    lists = random_lists(20_000, 4, candidates, nothing, seed=2)
    counts = np.bincount(lists.ravel(), minlength=40)
    assert counts.sum() == 80_000
    np.testing.assert_allclose(counts, 2000, rtol=0.1)
    assert (random_lists(20_000, 4, candidates, nothing, seed=2) == lists).all()
    assert (random_lists(20_000, 4, candidates, nothing, seed=3) != lists).any()


def test_random_lists_without_candidates() -> None:
    nothing = np.zeros(3, np.int64), np.zeros(0, np.int64)
    assert (random_lists(2, 4, np.zeros(5, np.bool_), nothing, seed=0) == -1).all()
