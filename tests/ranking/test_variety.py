import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.ranking.lists import Variety, choose_lists
from recjob.ranking.rules import Caps
from recjob.ranking.variety import varied_popular
from recjob.settings import VarietySettings

# Two groups of like outfits: 0 to 4 point one way and are popular, 5 and 6 point another way.
SCORES = np.array([10, 9, 8, 7, 6, 5, 4])
VECTORS = np.array([[2, 0]] * 5 + [[0, 3]] * 2, np.float32)


def naive(
    scores: NDArray[np.float64], vectors: NDArray[np.float32], k: int, relevance: float, pool: int
) -> list[int]:
    """MMR as its formula is written, outfit by outfit."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:pool]
    low, high = min(scores[order]), max(scores[order])
    taken = [order[0]]

    def cosine(a: int, b: int) -> float:
        x, y = vectors[a].astype(float), vectors[b].astype(float)
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    while len(taken) < k:
        rest = [i for i in order if i not in taken]
        value = {
            i: relevance * (scores[i] - low) / (high - low)
            - (1 - relevance) * max(cosine(i, j) for j in taken)
            for i in rest
        }
        taken.append(max(rest, key=lambda i: value[i]))
    return taken


def test_pure_relevance_is_the_popular_list() -> None:
    assert varied_popular(SCORES, VECTORS, 4, relevance=1, pool=7).tolist() == [0, 1, 2, 3]


def test_variety_brings_the_other_group_in() -> None:
    assert varied_popular(SCORES, VECTORS, 3, relevance=0.5, pool=7).tolist() == [0, 5, 1]


def test_the_pool_and_what_is_allowed_limit_the_choice() -> None:
    assert varied_popular(SCORES, VECTORS, 3, relevance=0, pool=4).tolist() == [0, 1, 2]
    allowed = SCORES < 7
    assert varied_popular(SCORES, VECTORS, 9, relevance=1, pool=2, allowed=allowed).tolist() == [
        4,
        5,
        6,
    ]
    nobody = np.zeros(7, np.bool_)
    assert varied_popular(SCORES, VECTORS, 3, relevance=1, pool=5, allowed=nobody).tolist() == []


@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.7, 1.0])
def test_equals_the_formula(relevance: float) -> None:
    rng = np.random.default_rng(3)
    scores, vectors = rng.random(60), rng.normal(size=(60, 8)).astype(np.float32)
    found = varied_popular(scores, vectors, 15, relevance=relevance, pool=40)
    assert found.tolist() == naive(scores, vectors, 15, relevance, 40)


def test_equal_scores_and_zero_vectors_are_no_trouble() -> None:
    found = varied_popular(np.zeros(5), np.zeros((5, 3), np.float32), 3, relevance=0.7, pool=5)
    assert found.tolist() == [0, 1, 2]


def test_caps_pass_outfits_over_and_the_list_stays_full() -> None:
    items = np.array([[0, 1], [0, 2], [0, 3], [4, 1], [5, 6], [5, 7], [5, -1]], np.int32)
    patterns = np.array([0, 0, 0, 1, 1, 1, 2], np.int32)

    def popular(k: int, pool: int, per_item: int, per_pattern: int) -> list[int]:
        caps = Caps(items, patterns, 8, 3, per_item, per_pattern)
        return list(varied_popular(SCORES, VECTORS, k, relevance=1, pool=pool, caps=caps))

    assert popular(7, 7, 2, 0) == [0, 1, 3, 4, 5]
    assert popular(3, 7, 1, 0) == [0, 4]
    assert popular(7, 7, 0, 1) == [0, 3, 6]
    # The pool of four holds two patterns; the third comes from behind it.
    assert popular(3, 4, 0, 1) == [0, 3, 6]


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("per_item", "per_pattern"), [(0, 0), (2, 0), (0, 4), (2, 4)])
def test_one_list_is_what_the_lists_of_users_are(
    strength: float, per_item: int, per_pattern: int
) -> None:
    rng = np.random.default_rng(5)
    scores, vectors = rng.permutation(90), rng.normal(size=(90, 16)).astype(np.float32)
    items, patterns = rng.integers(0, 25, (90, 2)), rng.integers(0, 5, 90)
    caps = Caps(items.astype("i4"), patterns.astype("i4"), 25, 5, per_item, per_pattern)
    found = varied_popular(scores, vectors, 20, relevance=1 - strength, pool=40, caps=caps)
    order = np.argsort(-scores)[None]
    variety = Variety.of(VarietySettings(strength=strength, pool=40), vectors)
    popularity = scores[order].astype(np.float32)
    expected = choose_lists(order, popularity, 20, variety, caps).outfits[0]
    assert found.tolist() == expected[expected >= 0].tolist()
