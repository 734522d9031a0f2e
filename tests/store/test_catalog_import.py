"""Folders into Postgres: upserts that change nothing the second time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from recjob.catalog.tables import FolderTables
from recjob.errors import DataError
from recjob.store.catalog_import import ImportCounts, TableCounts
from recjob.store.catalog_store import read_catalog
from recjob.store.database import Database
from tests.store.folders import folder, sha, shop, write

EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, 12, 30, tzinfo=UTC)


def dump(database: Database) -> list[list[tuple[object, ...]]]:
    with database.connect() as connection:
        return [
            sorted(
                (tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))), key=repr
            )
            for table in ("item", "outfit", "outfit_item", "app_user", "interaction")
        ]


def write_alone(database: Database, tables: FolderTables) -> None:
    with database.begin() as connection:
        write(connection, tables)


def test_twice_changes_nothing(database: Database) -> None:
    with database.begin() as connection:
        first = write(connection, shop())
    before = dump(database)
    with database.begin() as connection:
        second = write(connection, shop())
    assert first == ImportCounts(
        items=TableCounts(12, 0, 0),
        outfits=TableCounts(20, 0, 0),
        interactions=TableCounts(10, 0, 0),
        users=TableCounts(6, 0, 0),
        quarantined=0,
    )
    assert second == ImportCounts(
        items=TableCounts(0, 0, 12),
        outfits=TableCounts(0, 0, 20),
        interactions=TableCounts(0, 0, 10),
        users=TableCounts(0, 0, 6),
        quarantined=0,
    )
    assert dump(database) == before


def test_keys_are_not_used_up_by_repeated_imports(database: Database) -> None:
    for _ in range(3):
        with database.begin() as connection:
            write(connection, shop())
    more = folder(items=[("new", "top", "new.jpg", True, "{}")])
    with database.begin() as connection:
        write(connection, more)
        key = connection.scalar(text("SELECT item_key FROM item WHERE item_id = 'new'"))
    assert key == 13


def test_changed_items_are_updated_and_counted(database: Database) -> None:
    with database.begin() as connection:
        write(connection, shop())
        counts = write(
            connection,
            folder(
                items=[
                    ("i00", "dress", "i00.jpg", True, "{}"),
                    ("i01", "top", "other.jpg", True, "{}"),
                    ("i02", "top", "i02.jpg", False, "{}"),
                    ("i03", "top", "i03.jpg", True, '{"colour": "red", "odd": "a,\\"b\\"\\n"}'),
                    ("i04", "top", "i04.jpg", True, "{}"),
                ],
                outfits=[("o00", ["i01", "i00"], False)],
            ),
        )
        rows = connection.execute(
            text(
                "SELECT category, image, image_sha256, available, attributes FROM item "
                "ORDER BY item_id LIMIT 5"
            )
        ).all()
    assert counts.items == TableCounts(0, 4, 1)
    assert counts.outfits == TableCounts(0, 1, 0)  # the order of items is no content
    assert rows == [
        ("dress", "i00.jpg", sha("i00.jpg"), True, {}),
        ("top", "other.jpg", sha("other.jpg"), True, {}),
        ("top", "i02.jpg", sha("i02.jpg"), False, {}),
        ("top", "i03.jpg", sha("i03.jpg"), True, {"colour": "red", "odd": 'a,"b"\n'}),
        ("top", "i04.jpg", sha("i04.jpg"), True, {}),
    ]


def test_a_bad_picture_puts_its_item_in_quarantine_until_a_good_one_comes(
    database: Database,
) -> None:
    with database.begin() as connection:
        counts = write(connection, shop(), bad={"i03.jpg": "truncated", "i05.jpg": "no picture"})
        query = text("SELECT item_id, quarantine_reason FROM item WHERE image_sha256 IS NULL")
        assert counts.quarantined == 2
        assert sorted(connection.execute(query).all()) == [
            ("i03", "truncated"),
            ("i05", "no picture"),
        ]
        assert not read_catalog(connection).item_usable[3]
        again = write(connection, shop(), bad={"i05.jpg": "no picture"})
        assert again.items == TableCounts(0, 1, 11)
        assert connection.execute(query).all() == [("i05", "no picture")]


@pytest.mark.parametrize("items", [["i00"], ["i00", "i01", "i02"], ["i00", "i07"]])
def test_an_outfit_keeps_its_items(database: Database, items: list[str]) -> None:
    with database.begin() as connection:
        write(connection, shop())
    before = dump(database)
    change = folder(items=[("i00", "dress", "x.jpg", True, "{}")], outfits=[("o00", items, True)])
    with pytest.raises(DataError, match=r"outfit 'o00' is in the catalog and now .* new id"):
        write_alone(database, change)
    assert dump(database) == before


def test_the_earliest_time_of_a_liking_stays(database: Database) -> None:
    with database.begin() as connection:
        write(connection, shop())
        expected = [(LATE, 1), (EARLY, 1), (LATE, 0), (None, 0)]
        found = []
        for at, _ in expected:
            counts = write(connection, folder(interactions=[("u00", "o00", at)]))
            when = connection.scalar(text("SELECT min(at) FROM interaction"))
            found.append((when, counts.interactions.updated))
    assert found == [(LATE, 1), (EARLY, 1), (EARLY, 0), (EARLY, 0)]


def test_unknown_items_and_outfits_are_refused_and_nothing_is_half_done(
    database: Database,
) -> None:
    orphan = folder(items=[("i", "top", "i.jpg", True, "{}")], outfits=[("o", ["nothing"], True)])
    with pytest.raises(DataError, match="outfit 'o': unknown item 'nothing'"):
        write_alone(database, orphan)
    with pytest.raises(DataError, match="unknown outfit 'nothing'"):
        write_alone(database, folder(interactions=[("u", "nothing", None)]))
    assert dump(database) == [[], [], [], [], []]


def test_newcomers_need_no_items(database: Database) -> None:
    with database.begin() as connection:
        write(connection, shop())
        counts = write(connection, folder(interactions=[("new", "o03", None)], users=["quiet"]))
    assert counts.users == TableCounts(2, 0, 0)
    assert counts.interactions == TableCounts(1, 0, 0)


def test_ids_with_awkward_characters(database: Database) -> None:
    names = ['a,b"c', "ü\n", "日本 \t", "NULL", "\\N", "'; DROP TABLE item; --", "\\."]
    tables = folder(
        items=[(name, "top", f"{n}.jpg", True, "{}") for n, name in enumerate(names)],
        outfits=[(name, [name, names[0]] if name != names[0] else [name], True) for name in names],
        interactions=[(name, name, None) for name in names],
    )
    with database.begin() as connection:
        write(connection, tables)
        catalog = read_catalog(connection)
    assert catalog.item_ids == catalog.outfit_ids == catalog.user_ids == tuple(sorted(names))


def test_the_planner_knows_the_tables_after_an_import(database: Database) -> None:
    """Without statistics the checks of a run of 100,000 users took minutes instead of a second."""
    write_alone(database, shop())
    query = text("SELECT reltuples FROM pg_class WHERE oid = 'interaction'::regclass")
    with database.connect() as connection:
        assert connection.scalar(query) == 10


@pytest.mark.parametrize(
    "tables",
    [
        folder(items=[("é" * 501, "top", "i.jpg", True, "{}")]),
        folder(users=["u" * 1001]),
    ],
)
def test_ids_that_no_index_takes(database: Database, tables: FolderTables) -> None:
    with pytest.raises(DataError, match="longer than 1000 bytes"):
        write_alone(database, tables)


def test_of_the_parts_the_last_one_counts_and_silence_changes_none(database: Database) -> None:
    def parts(*rows: tuple[str, str, datetime | None, str | None]) -> tuple[TableCounts, list[int]]:
        with database.begin() as connection:
            counts = write(connection, folder(interactions=rows)).interactions
            found = read_catalog(connection).positive_part
        return counts, [] if found is None else found.tolist()

    write_alone(database, shop())
    assert parts(("u00", "o00", None, None)) == (TableCounts(0, 0, 1), [])
    counts, found = parts(("u00", "o00", None, "test"), ("u00", "o05", EARLY, "validation"))
    assert counts == TableCounts(1, 1, 0)
    assert found == [3, -1, 4, *[-1] * 8]
    assert parts(("u00", "o00", LATE, None))[1] == found
    assert parts(("u00", "o00", LATE, "train"))[1] == [0, *found[1:]]
    assert parts(("u00", "o00", LATE, "train"))[0] == TableCounts(0, 0, 1)
