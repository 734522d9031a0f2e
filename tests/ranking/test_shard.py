"""What travels to other machines arrives as it left."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from recjob.ranking.shard import ListShard, ScoringTable, UserShard

RNG = np.random.default_rng(0)


def table(n: int) -> ScoringTable:
    return ScoringTable(
        outfit_vectors=RNG.normal(size=(n, 4)).astype(np.float32),
        outfit_items=RNG.integers(-1, 9, size=(n, 3), dtype=np.int32),
        outfit_patterns=RNG.integers(0, 5, size=n, dtype=np.int32),
        allowed=RNG.random(n) < 0.5,
        default_outfits=np.array([2, 0, -1], np.int32),
        default_scores=np.array([1.0, 0.5, 0.0], np.float32),
    )


def users(n: int, with_vector: int, excluded: int) -> UserShard:
    indptr = np.sort(RNG.integers(0, excluded + 1, size=with_vector + 1))
    indptr[0], indptr[-1] = 0, excluded
    return UserShard(
        users=np.arange(100, 100 + n, dtype=np.int32),
        kinds=RNG.integers(0, 3, size=n, dtype=np.int32),
        rows=np.arange(with_vector),
        vectors=RNG.normal(size=(with_vector, 4)).astype(np.float32),
        exclude_indptr=indptr,
        exclude_indices=RNG.integers(0, 50, size=excluded),
        counts={"already liked": 2**40, "shown: lately": 0} if excluded else {},
    )


def lists(n: int) -> ListShard:
    scores = RNG.normal(size=(n, 3)).astype(np.float32)
    scores[:, 2:] = -np.inf
    return ListShard(
        users=np.arange(n, dtype=np.int32),
        kinds=RNG.integers(0, 3, size=n, dtype=np.int32),
        scored=RNG.random(n) < 0.5,
        outfits=RNG.integers(-1, 50, size=(n, 3), dtype=np.int32)[:, ::-1],  # not contiguous
        scores=scores,
        counts={"short": n},
    )


@pytest.mark.parametrize(
    "value",
    [table(7), table(0), users(5, 3, 6), users(4, 0, 0), lists(6), lists(0)],
    ids=["table", "no outfits", "users", "no vectors", "lists", "no lists"],
)
def test_bytes_and_back(value: ScoringTable | UserShard | ListShard) -> None:
    back = type(value).from_bytes(value.to_bytes())
    for part in fields(value):
        before, after = getattr(value, part.name), getattr(back, part.name)
        if isinstance(before, np.ndarray):
            assert (after.dtype, after.shape) == (before.dtype, before.shape), part.name
            np.testing.assert_array_equal(after, before)
        else:
            assert after == before
    assert back.to_bytes() == value.to_bytes()
