import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjob.ranking.exact import EMPTY, best, decode, encode, pair_scores, tree_sum

finite = st.floats(width=32, allow_nan=False)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 127, 128])
def test_tree_sum_agrees_with_an_exact_sum(width: int) -> None:
    terms = np.random.default_rng(width).normal(size=(200, width))
    exact = [math.fsum(row) for row in terms]
    np.testing.assert_allclose(tree_sum(terms.copy()), exact, rtol=0, atol=1e-13)


def test_pair_scores_are_the_rounded_exact_products() -> None:
    rng = np.random.default_rng(0)
    users = rng.normal(size=(20, 128)).astype(np.float32)
    outfits = rng.normal(size=(30, 128)).astype(np.float32)
    rows, columns = rng.integers(0, 20, 500), rng.integers(0, 30, 500)
    exact = [
        np.float32(
            math.fsum(float(a) * float(b) for a, b in zip(users[r], outfits[c], strict=True))
        )
        for r, c in zip(rows, columns, strict=True)
    ]
    np.testing.assert_array_equal(pair_scores(users, outfits, rows, columns), exact)


@given(finite, finite, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_keys_order_by_score_then_by_lower_index(a: float, b: float, i: int, j: int) -> None:
    first, second = encode(np.array([a, b], np.float32), np.array([i, j]))
    assert (first > second) == ((a, -i) > (b, -j))
    assert min(first, second) > EMPTY
    indices, scores = decode(np.array([first, second]))
    assert indices.tolist() == [i, j]
    assert scores.tolist() == [a, b]


def test_best_sorts_and_empty_keys_come_last() -> None:
    keys = encode(np.array([[1, 3, 3, -np.inf]], np.float32), np.array([[0, 9, 4, 2]]))
    keys = np.concatenate([keys, [[EMPTY]]], axis=1)
    indices, scores = decode(best(keys, 5))
    assert indices.tolist() == [[4, 9, 0, 2, -1]]
    assert scores.tolist() == [[3, 3, 1, -np.inf, -np.inf]]
    assert decode(best(keys, 2))[0].tolist() == [[4, 9]]
