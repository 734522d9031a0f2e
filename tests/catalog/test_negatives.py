"""Negatives against what a plain loop over sets says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.catalog import Catalog
from recjob.catalog.evaluation_lists import evaluation_lists
from recjob.catalog.negatives import (
    KnownPositives,
    RandomNegatives,
    hard_negatives,
)
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import DataError
from recjob.settings import SplitSettings
from tests.catalog.shops import item_set, liked_sets, random_shop

SPLIT = SplitSettings(train=2, validation=1, test=2)
seeds = st.integers(0, 2**32 - 1)


def place(outfits: list[list[int]], category: list[int], users: list[list[int]]) -> Catalog:
    """A catalog of given outfits; `users` lists the outfits that each likes."""
    width = max(len(outfit) for outfit in outfits)
    return Catalog(
        categories=("bottom", "shoes", "top"),
        item_ids=tuple(f"i{item}" for item in range(len(category))),
        item_category=np.array(category, dtype=np.int32),
        item_image=("image",) * len(category),
        item_available=np.ones(len(category), dtype=np.bool_),
        outfit_ids=tuple(f"o{outfit}" for outfit in range(len(outfits))),
        outfit_items=np.array([o + [-1] * (width - len(o)) for o in outfits], dtype=np.int32),
        outfit_available=np.ones(len(outfits), dtype=np.bool_),
        user_ids=tuple(f"u{user}" for user in range(len(users))),
        positives=np.array(
            [(user, outfit) for user, liked in enumerate(users) for outfit in sorted(liked)],
            dtype=np.int32,
        ),
    )


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


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_evaluation_lists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, quarantined=3)
    liked = liked_sets(catalog)
    parts = split_parts(catalog, SPLIT)
    usable = part_positives(catalog, parts, Part.TEST)
    lists = evaluation_lists(catalog, parts, Part.TEST, 4, seed=5)
    again = evaluation_lists(catalog, parts, Part.TEST, 4, seed=5)
    assert np.array_equal(lists.items, again.items)
    assert lists.items.shape == (len(lists.user), 5, catalog.max_items)
    assert len(lists.user) + lists.left_out == (parts == Part.TEST).sum()
    expected = {(int(u), item_set(catalog.outfit_items[o])) for u, o in usable}
    assert {(int(u), item_set(row[0])) for u, row in zip(lists.user, lists.items, strict=True)} <= (
        expected
    )
    used = set(catalog.outfit_items[usable[:, 1]].ravel().tolist())
    for user, row in zip(lists.user, lists.items, strict=True):
        for negative in row[1:]:
            assert item_set(negative) not in liked[int(user)]
            assert set(negative.tolist()) <= used | {-1}
            categories = [
                sorted(catalog.item_category[outfit[outfit >= 0]].tolist())
                for outfit in (row[0], negative)
            ]
            assert categories[0] == categories[1]


def test_evaluation_of_some_users_and_some_positives() -> None:
    catalog = random_shop(np.random.default_rng(0), n_items=90, n_positives=300)
    parts = split_parts(catalog, SPLIT)
    some = np.array([1, 3], dtype=np.int32)
    lists = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0, users=some)
    everyone = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0)
    assert set(lists.user.tolist()) == {1, 3}
    assert len(lists.user) == np.isin(everyone.user, some).sum()
    few = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0, max_positives=10)
    assert len(few.user) == 10
    other = evaluation_lists(catalog, parts, Part.TEST, 3, seed=1, max_positives=10)
    assert not np.array_equal(few.items, other.items)
    validation = evaluation_lists(catalog, parts, Part.VALIDATION_STUDENT, 3, seed=0)
    assert len(validation.user) == (parts == Part.VALIDATION_STUDENT).sum()


def test_positives_without_possible_negatives_are_left_out() -> None:
    """The part's items make only the four outfits that the user likes."""
    outfits = [[a, b] for a in (0, 1) for b in (2, 3)]
    catalog = place(outfits, [0, 0, 1, 1], [[0, 1, 2, 3]])
    parts = np.full(4, Part.TEST, dtype=np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 2, seed=0)
    assert lists.items.shape == (0, 3, 2)
    assert lists.left_out == 4


def test_a_part_without_positives() -> None:
    catalog = random_shop(np.random.default_rng(0))
    parts = np.zeros(len(catalog.positives), dtype=np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 10, seed=0)
    assert lists.items.shape == (0, 11, catalog.max_items)
