"""New combinations are valid, new and as asked for; some taste ranks those kept highest."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.catalog import Catalog, Int32Array
from recjob.ranking import mixes as module
from recjob.ranking.mixes import draw_mixes, keep_best_mixes, mix_ids, user_neighbourhoods
from recjob.settings import RuleSettings
from tests.ranking.catalogs import catalog

NO_RULES = RuleSettings()
CATEGORIES = ("bag", "shoes", "top")


def shop(seed: int, n_items: int, n_outfits: int) -> Catalog:
    """Outfits of one to four items of any categories, some sold out, some without a picture."""
    rng = np.random.default_rng(seed)
    width = min(4, n_items)
    return catalog(
        [
            rng.choice(n_items, rng.integers(1, width + 1), replace=False).tolist()
            for _ in range(n_outfits)
        ],
        categories=CATEGORIES,
        item_category=rng.integers(0, 3, n_items).tolist(),
        unavailable_items=tuple(np.flatnonzero(rng.random(n_items) < 0.1)),
        quarantined_items=tuple(np.flatnonzero(rng.random(n_items) < 0.1)),
        unavailable_outfits=tuple(np.flatnonzero(rng.random(n_outfits) < 0.1)),
    )


def sets(items: Int32Array) -> list[frozenset[int]]:
    return [frozenset(row) - {-1} for row in items.tolist()]


def kinds(source: Catalog, items: Int32Array) -> list[tuple[int, ...]]:
    return [tuple(sorted(source.item_category[list(row)].tolist())) for row in sets(items)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 40), st.integers(0, 80))
def test_mixes_are_new_wearable_and_like_the_outfits(
    seed: int, n_items: int, n_outfits: int, count: int
) -> None:
    source = shop(seed, n_items, n_outfits)
    mixes = draw_mixes(source, count, seed, NO_RULES)
    assert mixes.dtype == np.int32
    assert mixes.shape[1] == source.max_items
    assert len(mixes) <= count
    for row in mixes.tolist():
        size = source.max_items - row.count(-1)
        assert row == sorted(set(row[:size])) + [-1] * (source.max_items - size)
        assert size
    usable = source.item_available & source.item_usable
    assert usable[mixes[mixes >= 0]].all()
    assert len(set(sets(mixes))) == len(mixes)
    assert not set(sets(mixes)) & set(sets(source.outfit_items))
    recommendable = source.outfit_items[source.outfit_recommendable]
    assert set(kinds(source, mixes)) <= set(kinds(source, recommendable))


def test_all_new_combinations_are_found_where_there_are_few() -> None:
    # Two tops and three shoes make six pairs, two of which are outfits, in either order.
    source = catalog([[0, 2], [3, 1]], categories=("shoes", "top"), item_category=[1, 1, 0, 0, 0])
    mixes = draw_mixes(source, 50, 0, NO_RULES)
    assert {tuple(sorted(mix)) for mix in sets(mixes)} == {(0, 3), (0, 4), (1, 2), (1, 4)}
    assert len(draw_mixes(source, 3, 0, NO_RULES)) == 3
    assert draw_mixes(source, 0, 0, NO_RULES).shape == (0, 2)


def test_patterns_come_as_often_as_outfits_have_them() -> None:
    # 300 items of each category; three in four outfits are top and shoes, the rest has a bag too.
    category = np.repeat([0, 1, 2], 300).tolist()
    outfits = [[600 + n, 300 + n] if n % 4 else [n, 300 + n, 600 + n] for n in range(200)]
    source = catalog(outfits, categories=CATEGORIES, item_category=category)
    mixes = draw_mixes(source, 8000, 1, NO_RULES)
    assert len(mixes) == 8000
    share = Counter(kinds(source, mixes))[(0, 1, 2)] / 8000
    assert share == pytest.approx(0.25, abs=0.02)  # four standard deviations
    # Every item is alike likely: 8000 / 300 tops each, give or take.
    worn = np.bincount(mixes[mixes >= 0], minlength=900)
    assert worn[300:].min() > 5
    assert worn[300:].max() < 65


def test_the_seed_decides_and_the_order_of_the_outfits_does_not() -> None:
    outfits = [[0, 5], [1, 6, 10], [7, 2], [3, 8, 11]]
    category = [2] * 5 + [1] * 5 + [0] * 5
    source = catalog(outfits, categories=CATEGORIES, item_category=category)
    turned = catalog(
        [outfit[::-1] for outfit in outfits[::-1]], categories=CATEGORIES, item_category=category
    )
    mixes = draw_mixes(source, 30, 4, NO_RULES)
    np.testing.assert_array_equal(mixes, draw_mixes(source, 30, 4, NO_RULES))
    np.testing.assert_array_equal(mixes, draw_mixes(turned, 30, 4, NO_RULES))
    assert sets(mixes) != sets(draw_mixes(source, 30, 5, NO_RULES))


def test_blocks_hold_no_combination_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    source = shop(3, 30, 40)
    monkeypatch.setattr(module, "DRAWS_PER_BLOCK", 16)
    mixes = draw_mixes(source, 300, 0, NO_RULES)
    assert 200 < len(set(sets(mixes))) == len(mixes)
    assert not set(sets(mixes)) & set(sets(source.outfit_items))


def test_mixes_keep_to_the_rules() -> None:
    source = shop(6, 60, 200)
    rng = np.random.default_rng(0)
    attributes = rng.random((source.n_items, 2)) < 0.3
    rules = RuleSettings(
        required_categories=("top",),
        forbidden_categories=("bag",),
        required_attributes=("season=cold",),
        forbidden_attributes=("colour=red",),
    )
    mixes = draw_mixes(source, 100, 0, rules, attributes)
    assert len(mixes) > 20
    for mix in sets(mixes):
        members = list(mix)
        assert 2 in source.item_category[members]
        assert 0 not in source.item_category[members]
        assert attributes[members, 0].any()
        assert not attributes[members, 1].any()


def test_a_catalog_without_a_recommendable_outfit_gives_none() -> None:
    source = catalog([[0, 1]], unavailable_items=(0,))
    assert draw_mixes(source, 10, 0, NO_RULES).shape == (0, 2)


def test_neighbourhoods_find_the_groups() -> None:
    rng = np.random.default_rng(0)
    middles = np.eye(6, dtype=np.float32)
    users = middles[rng.integers(0, 6, 600)] + rng.normal(0, 0.05, (600, 6)).astype(np.float32)
    found = user_neighbourhoods(users, 6, seed=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    # k-means may put two middles into one group, but here every group is near some middle.
    assert (found @ middles.T).max(axis=0).min() > 0.65
    np.testing.assert_array_equal(found, user_neighbourhoods(users, 6, seed=1))
    longer = users * rng.uniform(0.1, 9, (600, 1)).astype(np.float32)
    np.testing.assert_allclose(found, user_neighbourhoods(longer, 6, seed=1), atol=1e-5)


def test_neighbourhoods_of_few_or_equal_users() -> None:
    users = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 2]], np.float32)
    found = user_neighbourhoods(users, 3, seed=0)
    assert found.shape == (3, 2)
    assert np.isfinite(found).all()
    assert user_neighbourhoods(users, 99, seed=0).shape == (4, 2)  # one has no direction
    assert user_neighbourhoods(users[:0], 5, seed=0).shape == (0, 2)
    assert user_neighbourhoods(users, 9, seed=0, sample=2).shape[0] <= 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 7), st.integers(0, 70))
def test_every_taste_keeps_its_best(seed: int, n: int, n_tastes: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    mixes = rng.integers(-3, 4, (n, 3)).astype(np.float32)
    tastes = rng.integers(-3, 4, (n_tastes, 3)).astype(np.float32)
    expected: list[int] = []
    ranking = np.argsort(-(tastes @ mixes.T), axis=1, kind="stable")
    for place in range(n):
        for taste in range(n_tastes):
            if ranking[taste, place] not in expected:
                expected.append(int(ranking[taste, place]))
    assert keep_best_mixes(mixes, tastes, budget).tolist() == expected[:budget]


def test_an_id_follows_from_the_items_alone() -> None:
    ids = mix_ids(np.array([[0, 2, -1], [2, 0, -1], [0, 1, 2]], np.int32), ("a", "b", "c"))
    assert ids[0] == ids[1] != ids[2]
    assert mix_ids(np.array([[1, 0]], np.int32), ("c", "a")) == ids[:1]
    assert ids[0].startswith("mix-")
    assert len(ids[0]) == 24
    assert mix_ids(np.array([[0]], np.int32), ("ac",)) != ids[:1]
