"""Rules, variety, mixes and recent nights in a whole night, read back as the shop reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from recjob.errors import SettingsError
from recjob.jobs.nightly_recommend import NightlyResult, nightly_recommend
from tests.fixtures_shop import Shop


def with_settings(shop: Shop, **sections: dict[str, Any]) -> Shop:
    changed = {
        name: getattr(shop.settings, name).model_copy(update=values)
        for name, values in sections.items()
    }
    return replace(shop, settings=shop.settings.model_copy(update=changed))


def night(shop: Shop) -> NightlyResult:
    return shop.run("nightly-recommend", nightly_recommend)


def categories(shop: Shop) -> dict[str, tuple[str, ...]]:
    """The categories of every outfit, sorted."""
    return {
        outfit: tuple(sorted(found))
        for outfit, found in shop.rows(
            "SELECT outfit_id, array_agg(category) FROM outfit JOIN outfit_item USING (outfit_key) "
            "JOIN item USING (item_key) GROUP BY outfit_id"
        )
    }


def everybody(shop: Shop) -> list[list[str]]:
    """The lists of all users and of visitors."""
    lists = [*shop.lists().values(), shop.default_list()]
    return [[outfit for outfit, _ in entries] for entries in lists]


def test_caps_hold_in_every_list(shop: Shop) -> None:
    result = night(
        with_settings(shop, rules={"max_outfits_per_item": 2, "max_per_category_pattern": 6})
    )
    items, patterns = shop.items_of(), categories(shop)
    for outfits in everybody(shop):
        worn = Counter(item for outfit in outfits for item in items[outfit])
        assert max(worn.values()) <= 2
        assert max(Counter(patterns[outfit] for outfit in outfits).values()) <= 6
    assert any("its item is in the list often enough" in reason for reason in result.left_out)


def mark(shop: Shop, item: str) -> None:
    """Give an item the attribute season=winter."""
    shop.rows('UPDATE item SET attributes = \'{"season": "winter"}\' WHERE item_id = %s', item)


def test_forbidden_attributes(shop: Shop) -> None:
    worn = Counter(item for outfit in shop.wearable() for item in shop.items_of()[outfit])
    chosen = worn.most_common()[-1][0]
    mark(shop, chosen)
    allowed = {outfit for outfit in shop.wearable() if chosen not in shop.items_of()[outfit]}
    result = night(with_settings(shop, rules={"forbidden_attributes": ("season=winter",)}))
    assert result.candidates == len(allowed)
    assert result.filtered["with season=winter"] == len(shop.wearable()) - len(allowed)
    assert {outfit for outfits in everybody(shop) for outfit in outfits} <= allowed


def test_a_category_that_no_item_has(shop: Shop) -> None:
    other = with_settings(shop, rules={"required_categories": ("submarine",)})
    with pytest.raises(SettingsError, match="submarine"):
        night(other)


def test_required_attributes(shop: Shop) -> None:
    chosen = sorted(shop.items_of()[sorted(shop.wearable())[0]])[0]
    shop.rows('UPDATE item SET attributes = \'{"season": "winter"}\' WHERE item_id = %s', chosen)
    allowed = {outfit for outfit in shop.wearable() if chosen in shop.items_of()[outfit]}
    result = night(
        with_settings(
            shop,
            rules={"required_attributes": ("season=winter",)},
            limits={"max_coverage_loss": 1.0, "max_score_shift": 100.0},
        )
    )
    assert result.candidates == len(allowed)
    assert {outfit for outfits in everybody(shop) for outfit in outfits} <= allowed


def test_what_was_shown_lately_is_not_shown_again(shop: Shop) -> None:
    other = with_settings(shop, rules={"exclude_recent_nights": 2})
    users = sorted(shop.user_vectors())
    shown = [shop.lists()]
    for _ in range(2):
        result = night(other)
        shown.append(shop.lists())
    assert result.left_out["shown lately"] > 0
    for user in users:
        nights = [{outfit for outfit, _ in lists[user]} for lists in shown]
        assert len(set.union(*nights)) == sum(len(outfits) for outfits in nights)


def test_mixes_are_new_wearable_and_gone_when_unused(shop: Shop) -> None:
    known = {frozenset(items) for items in shop.items_of().values()}
    patterns = set(categories(shop).values())
    result = night(with_settings(shop, mixes={"budget": 40, "neighbourhoods": 4}))
    assert result.mixes == 40
    mixes = {
        outfit: set(items) for outfit, items in shop.items_of().items() if outfit.startswith("mix-")
    }
    assert 0 < len(mixes) <= 40  # those that nobody gets are gone already
    listed = {outfit for outfits in everybody(shop) for outfit in outfits}
    assert listed & mixes.keys()
    good = {
        item
        for (item,) in shop.rows(
            "SELECT item_id FROM item WHERE available AND quarantine_reason IS NULL"
        )
    }
    for outfit, items in mixes.items():
        assert items <= good
        assert frozenset(items) not in known
        assert categories(shop)[outfit] in patterns
    lists = everybody(shop)
    night(with_settings(shop, mixes={"budget": 40, "neighbourhoods": 4}))
    assert everybody(shop) == lists
    assert {o for o in shop.items_of() if o.startswith("mix-")} == mixes.keys()
    nightly = {"keep_runs": 2}
    for _ in range(2):
        night(with_settings(shop, nightly=nightly))
    assert not {o for o in shop.items_of() if o.startswith("mix-")}


def test_lists_from_a_flat_index_are_the_exact_ones(shop: Shop) -> None:
    from recjob.jobs.embed import embed

    shop.run("embed", embed)
    before = shop.lists()
    night(with_settings(shop, nightly={"search": "index"}))
    assert shop.lists() == before
