import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjob.evaluation.metrics import auc, grouped, ndcg, ndcg_mean


def naive_auc(scores: list[float], labels: list[int]) -> float:
    wins, pairs = 0.0, 0
    for i, j in itertools.product(range(len(scores)), repeat=2):
        if labels[i] == 1 and labels[j] == 0:
            pairs += 1
            wins += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    return wins / pairs


def orders(scores: list[float]) -> list[tuple[int, ...]]:
    """Every ranking that the scores allow: all orders of tied outfits."""
    return [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


def dcg(gains: list[float], peer: bool) -> float:
    return sum(
        g / math.log2(max(rank, 2) if peer else rank + 1) for rank, g in enumerate(gains, start=1)
    )


def naive_ndcg_mean(scores: list[float], labels: list[int]) -> float:
    ideal = sorted((2.0**y - 1 for y in labels), reverse=True)
    values = []
    for order in orders(scores):
        gains = [2.0 ** labels[i] - 1 for i in order]
        cutoffs = range(1, len(scores) + 1)
        values += [sum(dcg(gains[:m], True) / dcg(ideal[:m], True) for m in cutoffs) / len(scores)]
    return sum(values) / len(values)


def naive_ndcg(scores: list[float], labels: list[int]) -> float:
    ideal = sorted((float(y) for y in labels), reverse=True)
    values = [
        dcg([float(labels[i]) for i in order], False) / dcg(ideal, False)
        for order in orders(scores)
    ]
    return sum(values) / len(values)


small_lists = st.lists(
    st.tuples(st.integers(0, 3).map(float), st.integers(0, 1)), min_size=2, max_size=6
).filter(lambda pairs: {label for _, label in pairs} == {0, 1})


@given(small_lists)
def test_all_three_equal_their_definitions_with_ties_in_expectation(
    pairs: list[tuple[float, int]],
) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    assert auc(scores, labels) == pytest.approx(naive_auc(scores, labels))
    assert ndcg_mean(scores, labels) == pytest.approx(naive_ndcg_mean(scores, labels))
    assert ndcg(scores, labels) == pytest.approx(naive_ndcg(scores, labels))


def test_known_values() -> None:
    assert auc([3, 2, 1], [1, 0, 0]) == 1
    assert auc([3, 2, 1], [0, 0, 1]) == 0
    assert auc([1, 1, 1, 1], [1, 0, 0, 1]) == 0.5
    assert ndcg_mean([3, 2, 1], [1, 0, 0]) == 1
    # The positive on rank 3 of 3 counts at the last cutoff only, by 1 / log2(3).
    assert ndcg_mean([1, 2, 3], [1, 0, 0]) == pytest.approx(1 / math.log2(3) / 3)
    assert ndcg([1, 2, 3], [1, 0, 0]) == pytest.approx(1 / math.log2(4))


def test_a_constant_score_earns_no_more_than_chance() -> None:
    labels = [1] + [0] * 10
    assert auc(np.zeros(11), labels) == 0.5
    shuffled = [ndcg_mean(np.random.default_rng(seed).random(11), labels) for seed in range(4000)]
    assert ndcg_mean(np.zeros(11), labels) == pytest.approx(np.mean(shuffled), abs=0.01)


def test_grouped_equals_one_user_at_a_time() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([7, 3, 5], 40))
    scores = rng.integers(0, 12, 120).astype(float)
    labels = rng.integers(0, 2, 120)
    result = grouped(group, scores, labels)
    assert result.group.tolist() == [3, 5, 7]
    for row, user in enumerate(result.group):
        own = group == user
        assert result.auc[row] == pytest.approx(auc(scores[own], labels[own]))
        assert result.ndcg_mean[row] == pytest.approx(ndcg_mean(scores[own], labels[own]))
        assert result.ndcg[row] == pytest.approx(ndcg(scores[own], labels[own]))


@pytest.mark.parametrize("metric", [auc, ndcg, ndcg_mean])
@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([1.0, 2.0], [1, 1]),
        ([1.0, 2.0], [0, 0]),
        ([], []),
        ([1.0, float("nan")], [0, 1]),
        ([1.0, float("inf")], [0, 1]),
        ([1.0, 2.0], [0, 2]),
        ([1.0, 2.0], [0, 1, 1]),
        ([[1.0, 2.0]], [[0, 1]]),
    ],
)
def test_what_has_no_answer_raises(metric, scores, labels) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        metric(scores, labels)
