"""What simulated users truly like: few random outfits, and nearly all that they posted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from recjob.catalog.catalog import Catalog
from recjob.catalog.drawn_truth import (
    is_drawn_from,
    looks_drawn,
    posting_levels,
    truly_liked,
    users_in,
)
from recjob.catalog.negatives import RandomNegatives
from recjob.catalog.synthetic import Simulation, simulate
from recjob.settings import DemoSettings
from tests.catalog.shops import random_shop
from tests.catalog.test_synthetic import as_catalog

SMALL = DemoSettings(items=120, users=20, cold_starters=6, strangers=2, outfits_per_user=20)


@cache
def small() -> Simulation:
    return simulate(SMALL, seed=3)


@pytest.mark.parametrize(
    "settings",
    [DemoSettings(users=30), SMALL],
    ids=["items of the demo", "small"],
)
def test_few_random_outfits_are_truly_liked(settings: DemoSettings) -> None:
    shop = simulate(settings, seed=1)
    catalog = as_catalog(shop)
    rng = np.random.default_rng(0)
    like = catalog.positives[rng.integers(0, len(catalog.positives), 10_000), 1]
    outfits = RandomNegatives(catalog, catalog.positives[:, 1]).draw(like, rng)
    users = rng.integers(0, settings.users, like.size).astype(np.int32)
    assert 0.03 < truly_liked(shop, users, outfits).mean() < 0.06


def test_nine_tenths_of_the_posts_of_a_kind_reach_the_level() -> None:
    shop = small()
    users, outfits = shop.positives.T
    items = shop.outfit_items[outfits]
    liked = truly_liked(shop, users, items)
    assert 0.9 <= liked.mean() < 0.97
    levels = posting_levels(shop)
    two_tops = (shop.taste.items.category[items] == 2).astype(int)
    two_tops[items < 0] = 0
    two = two_tops.sum(axis=1) > 1
    utilities = shop.utility(users, items)
    for user in range(26):
        for kind in (False, True):
            utility = utilities[(users == user) & (two == kind)]
            if utility.size == 0:
                assert levels[user, int(kind)] == np.inf
                continue
            below = (utility < levels[user, int(kind)]).sum()
            assert below == int(0.1 * utility.size)
    assert (levels[26:] == np.inf).all()  # strangers posted nothing


def test_it_is_known_by_its_items_and_positives() -> None:
    catalog = as_catalog(small())
    assert looks_drawn(catalog)
    assert is_drawn_from(small(), catalog)
    assert users_in(small(), catalog).tolist() == list(range(28))
    other = simulate(SMALL, seed=4)
    assert not is_drawn_from(other, catalog)
    more = simulate(SMALL.model_copy(update={"items": 121}), seed=3)
    assert not is_drawn_from(more, catalog)
    fewer = simulate(SMALL.model_copy(update={"cold_starters": 5}), seed=3)
    assert not is_drawn_from(fewer, catalog)


def test_without_newcomers_and_with_new_outfits() -> None:
    full = as_catalog(small())
    names = [name for name in full.user_ids if not name.startswith("newcomer")]
    number = {full.user_ids.index(name): place for place, name in enumerate(sorted(names))}
    positives = np.array([(number[u], o) for u, o in full.positives if u in number], np.int32)
    catalog: Catalog = replace(
        full,
        user_ids=tuple(sorted(names)),
        positives=positives[np.lexsort(positives.T[::-1])],
        outfit_ids=(*full.outfit_ids, "mix-1"),
        outfit_items=np.concatenate([full.outfit_items, full.outfit_items[:1, ::-1]]),
    )
    assert is_drawn_from(small(), catalog)
    names_there = [small().user_ids[user] for user in users_in(small(), catalog)]
    assert tuple(names_there) == catalog.user_ids


def test_another_shop() -> None:
    catalog = random_shop(np.random.default_rng(0))
    assert not looks_drawn(catalog)
    assert not is_drawn_from(small(), catalog)
    renamed = replace(as_catalog(small()), user_ids=("anna", *small().user_ids[1:]))
    assert not looks_drawn(renamed)
    assert not is_drawn_from(small(), renamed)
