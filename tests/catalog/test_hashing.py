"""Hashes of ids and item sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recjob.catalog.hashing import keyed_hashes, mix, pair_hashes, set_hashes


def test_mix_is_splitmix64() -> None:
    """The published first outputs of splitmix64 from seed 1234567: state += gamma, then mix."""
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * gamma) % 2**64 for k in range(3)], dtype=np.uint64)
    assert mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_ids_keys_and_kinds_are_told_apart() -> None:
    names = [f"id{number}" for number in range(1000)]
    users = keyed_hashes(names, "key", "user")
    assert np.unique(users).size == 1000
    assert np.array_equal(users, keyed_hashes(names, "key", "user"))
    assert not np.isin(users, keyed_hashes(names, "key", "item")).any()
    assert not np.isin(users, keyed_hashes(names, "other key", "user")).any()
    assert keyed_hashes(["x"], "k" * 1000, "user") != keyed_hashes(["x"], "k" * 1001, "user")
    assert keyed_hashes([], "key", "user").size == 0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 1000))
def test_sets_ignore_order_and_padding(items: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = np.array([[*items, -1, -1]], dtype=np.int32)
    assert set_hashes(row)[0] == set_hashes(rng.permutation(row, axis=1))[0]
    assert set_hashes(row)[0] == set_hashes(row[:, : len(items)])[0]


def test_sets_and_pairs_are_told_apart() -> None:
    singles = [[a, -1, -1] for a in range(40)]
    pairs = [[a, b, -1] for a in range(40) for b in range(a, 40)]  # also the same item twice
    rows = np.array(singles + pairs, dtype=np.int32)
    sets = set_hashes(rows)
    assert np.unique(sets).size == len(rows)
    users = np.arange(50, dtype=np.uint64)
    both = pair_hashes(users[:, None], sets[None, :])
    assert np.unique(both).size == both.size
