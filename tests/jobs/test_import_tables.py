"""Imports as a job: upserts, quarantine, and what the next run makes of them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from recjob.errors import RefusedError
from recjob.jobs.import_tables import ImportResult, SnapshotCounts, import_tables
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.pictures import open_pictures
from recjob.jobs.runner import run_job
from recjob.settings import ImageSettings, Settings, TeacherSettings
from recjob.store.database import Database
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


def test_a_snapshot_withdraws_what_it_lacks_and_too_small_a_one_is_refused(shop: Shop) -> None:
    folder = shop.folder / "export"
    shutil.copytree(shop.folder / "shop", folder)
    outfits = folder / "outfits.csv"
    header, *rows = outfits.read_text().splitlines(keepends=True)
    gone = shop.lists()["user-001"][0][0]
    left = [row for row in rows if not row.startswith(f"{gone},")]
    assert len(left) == len(rows) - 1
    body = partial(import_tables, folder=folder, snapshot=True)
    shop.run("import", body)  # of the newcomers' folder, which is not in this one
    outfits.write_text("".join([header, *left]))
    result = shop.run("import", body)
    assert result.snapshot == SnapshotCounts(
        items_withdrawn=0, items_returned=0, outfits_withdrawn=1, outfits_returned=0
    )
    assert gone not in {outfit for outfit, _ in shop.lists()["user-001"]}
    assert gone in shop.items_of()  # it is still there
    before = shop.wearable()
    outfits.write_text("".join([header, *left[: len(left) // 2]]))
    (folder / "interactions.csv").unlink()
    with pytest.raises(RefusedError, match=r"snapshot\.max_outfit_loss = 0\.2"):
        shop.run("import", body)
    assert shop.wearable() == before
    assert shop.rows("SELECT outcome FROM job_run ORDER BY run_id DESC LIMIT 1") == [("refused",)]
    outfits.write_text("".join([header, *rows]))
    result = shop.run("import", body)
    assert result.snapshot is not None
    assert (result.snapshot.outfits_withdrawn, result.snapshot.outfits_returned) == (0, 1)
    assert imported(shop, shop.folder / "shop").snapshot is None


def test_negatives_and_pictures_of_every_size_that_the_settings_name(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for item in ("a", "b"):
        Image.new("RGB", (90, 60), "red" if item == "a" else "blue").save(folder / f"{item}.png")
    for name, rows in {
        "items": "item_id,category,image\na,top,a.png\nb,top,b.png\n",
        "outfits": "outfit_id,item_ids\no1,a\no2,b\n",
        "interactions": "user_id,outfit_id,part\nu,o1,test\nv,o2,train\nw,o1,test\nw,o2,train\n",
        "negatives": "user_id,outfit_id,item_ids\nu,o1,b\nu,o1,a|b\nw,o1,b\n",
    }.items():
        (folder / f"{name}.csv").write_text(rows)
    settings = Settings(
        home=tmp_path / "var",
        images=ImageSettings(size=64),
        teacher=TeacherSettings(image_size=80),
    )
    result = run_job("import", database, settings, partial(import_tables, folder=folder))
    assert (result.negatives, result.negatives_left_out) == (2, 1)  # w likes o2, that is b
    assert result.pictures_decoded == 2
    assert [len(open_pictures(settings, size)) for size in (64, 80)] == [2, 2]
