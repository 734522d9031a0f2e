"""Exports that are all that the shop has: what they lack is withdrawn, too little is refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from recjob.catalog.tables import FolderTables
from recjob.errors import RefusedError
from recjob.settings import SnapshotSettings
from recjob.store.catalog_import import ImportCounts, write_tables
from recjob.store.database import Database
from recjob.store.snapshot import Withdrawal
from tests.store.folders import folder, sha, shop

ITEMS = [(f"i{n:02}", "top", f"i{n:02}.jpg", True, "{}") for n in range(10)]
OUTFITS = [(f"o{n:02}", [f"i{n:02}", f"i{(n + 1) % 10:02}"], True) for n in range(10)]
ANY = SnapshotSettings(max_item_loss=1.0, max_outfit_loss=1.0)


def take(
    database: Database, tables: FolderTables, limits: SnapshotSettings | None = ANY
) -> ImportCounts:
    """Import in a transaction; a snapshot unless `limits` is None."""
    hashes = [sha(image) for image in tables.items["image"].to_pylist()]
    with database.begin() as connection:
        return write_tables(connection, tables, hashes, {}, limits)


def available(database: Database, entity: str) -> set[str]:
    with database.connect() as connection:
        query = f"SELECT {entity}_id FROM {entity} WHERE available"
        return set(connection.scalars(text(query)))


def everything(database: Database) -> list[str]:
    tables = ("item", "outfit", "outfit_item", "app_user", "interaction")
    with database.connect() as connection:
        return [
            row
            for table in tables
            for row in sorted(connection.scalars(text(f"SELECT {table}::text FROM {table}")))
        ]


@pytest.fixture
def full(database: Database) -> Database:
    """Ten items, ten outfits, and a user who likes the last of them."""
    take(database, folder(ITEMS, OUTFITS, [("u", "o09", None)]), None)
    return database


def test_what_is_absent_is_withdrawn_and_comes_back(full: Database) -> None:
    counts = take(full, folder(ITEMS[:7], OUTFITS[:6]))
    assert counts.items_withdrawn == Withdrawal(withdrawn=3, returned=0)
    assert counts.outfits_withdrawn == Withdrawal(withdrawn=4, returned=0)
    assert available(full, "item") == {item[0] for item in ITEMS[:7]}
    assert available(full, "outfit") == {outfit[0] for outfit in OUTFITS[:6]}
    with full.connect() as connection:  # the like of o09 is still there
        assert connection.scalar(text("SELECT count(*) FROM interaction")) == 1
    again = take(full, folder(ITEMS[:7], OUTFITS[:6]))
    assert again.items_withdrawn == again.outfits_withdrawn == Withdrawal(0, 0)
    back = take(full, folder(ITEMS[:9], OUTFITS[:8]))
    assert back.items_withdrawn == back.outfits_withdrawn == Withdrawal(withdrawn=0, returned=2)
    assert available(full, "item") == {item[0] for item in ITEMS[:9]}


def test_without_the_option_nothing_is_withdrawn(full: Database) -> None:
    counts = take(full, folder(ITEMS[:2], OUTFITS[:1]), None)
    assert counts.items_withdrawn is counts.outfits_withdrawn is None
    assert len(available(full, "item")) == len(available(full, "outfit")) == 10


def test_a_table_that_the_folder_lacks_is_left_alone(full: Database) -> None:
    counts = take(full, folder(outfits=OUTFITS[:6]))
    assert (counts.items_withdrawn, counts.outfits_withdrawn) == (None, Withdrawal(4, 0))
    assert len(available(full, "item")) == 10
    counts = take(full, folder(interactions=[("new", "o00", None)]))
    assert (counts.items_withdrawn, counts.outfits_withdrawn) == (None, None)
    assert len(available(full, "outfit")) == 6


def test_mixes_are_not_the_shops(full: Database) -> None:
    with full.begin() as connection:
        connection.execute(text("INSERT INTO outfit (outfit_id, origin) VALUES ('mix', 'mix')"))
    counts = take(full, folder(ITEMS, OUTFITS[:9]))
    assert counts.outfits_withdrawn == Withdrawal(1, 0)
    assert available(full, "outfit") == {"mix", *(outfit[0] for outfit in OUTFITS[:9])}


@pytest.mark.parametrize(
    ("items", "outfits", "told"),
    [
        (ITEMS[:7], OUTFITS[:6], "3 of 10 available items unavailable (30%)"),
        (ITEMS, OUTFITS[:7], "3 of 10 available outfits unavailable (30%)"),
        # The export says itself that they are gone.
        ([(*item[:3], n > 2, "{}") for n, item in enumerate(ITEMS)], OUTFITS, "3 of 10 available"),
    ],
    ids=["items", "outfits", "said so"],
)
def test_too_great_a_loss_is_refused_and_changes_nothing(
    full: Database, items: list[Any], outfits: list[Any], told: str
) -> None:
    before = everything(full)
    limits = SnapshotSettings(max_item_loss=0.2, max_outfit_loss=0.2)
    with pytest.raises(RefusedError) as refused:
        take(full, folder(items, outfits, [("v", "o00", None)]), limits)
    assert told in str(refused.value)
    assert "= 0.2 allows; nothing was imported" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert everything(full) == before


def test_just_the_limit_is_taken_and_counts_what_was_available(full: Database) -> None:
    limits = SnapshotSettings(max_item_loss=0.2, max_outfit_loss=0.4)
    take(full, folder(ITEMS[:8], OUTFITS[:6]), limits)
    with pytest.raises(RefusedError, match="2 of 8 available items"):
        take(full, folder(ITEMS[:6], OUTFITS[:5]), limits)
    assert len(available(full, "item")) == 8


def test_the_first_import_may_be_a_snapshot(database: Database) -> None:
    limits = SnapshotSettings(max_item_loss=0.0, max_outfit_loss=0.0)
    counts = take(database, shop(), limits)
    assert counts.items_withdrawn == Withdrawal(0, 0)
    assert (counts.items.added, counts.outfits.added) == (12, 20)
