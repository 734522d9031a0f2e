import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.ranking.variety import varied_popular

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
