"""Negatives against what a plain loop over sets says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.negatives import (
    KnownPositives,
    RandomNegatives,
    hard_negatives,
)
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import DataError
from recjob.settings import SplitSettings
from tests.catalog.shops import item_set, liked_sets, place, random_shop

SPLIT = SplitSettings(train=2, validation=1, test=2)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_known_positives(seed: int) -> None:
    catalog = random_shop(np.random.default_rng(seed))
    known, liked = KnownPositives(catalog), liked_sets(catalog)
    users = np.arange(catalog.n_users, dtype=np.int32)
    table = known.contains_all(users, catalog.outfit_items)
    for user in users:
        for outfit in range(catalog.n_outfits):
            items = item_set(catalog.outfit_items[outfit])
            assert table[user, outfit] == (items in liked[int(user)])
    paired = known.contains(catalog.positives[:, 0], catalog.outfit_items[catalog.positives[:, 1]])
    assert paired.all()


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_random_negatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, quarantined=3)
    positives = part_positives(catalog, split_parts(catalog, SPLIT), Part.TRAIN)
    negatives = RandomNegatives(catalog, positives[:, 1])
    like = np.repeat(positives[:, 1], 3)
    drawn = negatives.draw(like, rng)
    assert drawn.dtype == np.int32
    used = set(catalog.outfit_items[positives[:, 1]].ravel().tolist())
    sets = {item_set(row) for row in catalog.outfit_items[positives[:, 1]]}
    for outfit, row in zip(like, drawn, strict=True):
        pattern = catalog.outfit_items[outfit]
        assert ((row < 0) == (pattern < 0)).all()
        real = row[row >= 0]
        assert (catalog.item_category[real] == catalog.item_category[pattern[pattern >= 0]]).all()
        assert set(real.tolist()) <= used
        assert len(set(real.tolist())) == real.size
        assert item_set(row) not in sets
        assert all(catalog.item_image[item] for item in real)


def test_draws_are_uniform_over_unique_items() -> None:
    """Two tops of four and one bottom of three: every one of the 6 x 3 outfits equally often."""
    outfits = [[0, 1, 4], [2, 3, 5], [0, 6], [0, 4], [0, 5], [0, 1, 2]]
    catalog = place(outfits, [0, 0, 0, 0, 1, 1, 1], [[0, 1, 2, 3, 4]])
    negatives = RandomNegatives(catalog, np.array([2, 2, 2, 2, 0, 1], dtype=np.int32))
    like = np.full(36_000, 0, dtype=np.int32)
    drawn = negatives.draw(like, np.random.default_rng(0))
    counts = Counter(tuple(sorted(row.tolist())) for row in drawn)
    # All but the two positives among the three-item outfits; 16 left, 2250 each.
    assert len(counts) == 16
    assert (0, 1, 4) not in counts
    assert (2, 3, 5) not in counts
    assert max(abs(count - 2250) for count in counts.values()) < 5 * np.sqrt(2250)


def test_a_category_with_too_few_items_repeats_them() -> None:
    catalog = place([[0, 1], [0, 2]], [0, 0, 1], [[0, 1]])
    drawn = RandomNegatives(catalog, np.array([1], dtype=np.int32)).draw(
        np.zeros(5, dtype=np.int32), np.random.default_rng(0)
    )
    assert drawn.tolist() == [[0, 0]] * 5


def test_no_item_to_draw() -> None:
    catalog = place([[0], [1]], [0, 2], [[0, 1]])
    negatives = RandomNegatives(catalog, np.array([0], dtype=np.int32))
    with pytest.raises(DataError, match="no item of category 'top'"):
        negatives.draw(np.array([1], dtype=np.int32), np.random.default_rng(0))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_hard_negatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, quarantined=3)
    liked = liked_sets(catalog)
    positives = part_positives(catalog, split_parts(catalog, SPLIT), Part.TRAIN)
    users = np.repeat(np.arange(catalog.n_users, dtype=np.int32), 20)
    outfits = hard_negatives(catalog, catalog.positives, users, rng)
    usable = set(part_positives(catalog, split_parts(catalog, SPLIT), *Part)[:, 1].tolist())
    for user, outfit in zip(users, outfits, strict=True):
        assert item_set(catalog.outfit_items[outfit]) not in liked[int(user)]
        assert int(outfit) in usable
    drawn = hard_negatives(catalog, positives, users, rng, KnownPositives(catalog))
    assert set(drawn.tolist()) <= set(positives[:, 1].tolist())


def test_hard_negatives_for_a_user_who_likes_nearly_everything() -> None:
    outfits = [[number] for number in range(200)]
    everything = list(range(199))
    catalog = place(outfits, [0] * 200, [everything, [*everything, 199]])
    rng = np.random.default_rng(0)
    users = np.zeros(10, dtype=np.int32)
    assert hard_negatives(catalog, catalog.positives, users, rng).tolist() == [199] * 10
    with pytest.raises(DataError, match="'u1' likes every outfit"):
        hard_negatives(catalog, catalog.positives, users + 1, rng)
