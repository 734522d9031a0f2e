"""Imports as a job: upserts, quarantine, and what the next run makes of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from recjob.jobs.import_tables import ImportResult, import_tables
from recjob.jobs.nightly_recommend import nightly_recommend
from tests.fixtures_shop import K, Shop


def imported(shop: Shop, folder: Path) -> ImportResult:
    return shop.run("import", partial(import_tables, folder=folder))


def test_the_same_folder_again_changes_nothing(shop: Shop) -> None:
    tables = ("item", "outfit", "outfit_item", "app_user", "interaction")
    before = [sorted(shop.rows(f"SELECT {table}::text FROM {table}")) for table in tables]
    result = imported(shop, shop.folder / "shop")
    assert result.pictures_decoded == 0
    for counts in (result.items, result.outfits, result.interactions, result.users):
        assert (counts.added, counts.updated) == (0, 0)
        assert counts.unchanged > 0
    after = [sorted(shop.rows(f"SELECT {table}::text FROM {table}")) for table in tables]
    assert after == before


def test_an_item_whose_picture_breaks_is_recommended_no_more_until_it_is_whole(
    shop: Shop,
) -> None:
    items = shop.items_of()
    bad = items[shop.lists()["user-001"][0][0]][0]
    path = shop.folder / "shop" / "images" / f"{bad}.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    result = imported(shop, shop.folder / "shop")
    assert [picture.item for picture in result.quarantined] == [bad]
    assert "damaged" in result.quarantined[0].reason
    assert (result.items.updated, result.items.unchanged) == (1, 59)
    # At once, and in the next run.
    for _ in range(2):
        lists = shop.lists()
        assert lists.keys() == shop.users()
        assert not any(bad in items[outfit] for entries in lists.values() for outfit, _ in entries)
        night = shop.run("nightly-recommend", nightly_recommend)
    assert night.filtered["quarantined item"] > 0
    assert night.shortest_list == K
    path.write_bytes(whole)
    result = imported(shop, shop.folder / "shop")
    assert (result.items.updated, result.quarantined) == (1, ())
    night = shop.run("nightly-recommend", nightly_recommend)
    assert night.filtered["quarantined item"] == 0
    worn = sum(bad in worn for worn in items.values())
    assert (night.new_items, night.new_outfits) == (1, worn)  # no more than what had gone
