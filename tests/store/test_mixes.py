"""Mixes live as outfits from the night that makes them until nothing names them any more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import Int32Array
from recjob.errors import DataError
from recjob.store.catalog_store import CatalogKeys, read_catalog, read_keys
from recjob.store.database import Database
from recjob.store.mixes import add_mixes, drop_unused_mixes
from recjob.store.publication import drop_old_runs
from tests.store.folders import folder, shop, write
from tests.store.runs import run_lists, write_run

IDS = ["mix-b", "mix-a", "o00b"]


@pytest.fixture
def keys(database: Database) -> CatalogKeys:
    with database.begin() as connection:
        write(connection, shop())
        return read_keys(connection)


def add(database: Database, keys: CatalogKeys, ids: list[str] = IDS) -> Int32Array:
    items = np.full((len(ids), 4), -1, np.int32)
    items[:, 0], items[:, 1] = keys.items[7], keys.items[2]
    items[:1, 2] = keys.items[4]
    with database.begin() as connection:
        return add_mixes(connection, ids, items)


def mixes(database: Database) -> dict[str, list[str]]:
    query = text(
        "SELECT outfit_id, array_agg(item_id ORDER BY place) FROM outfit "
        "JOIN outfit_item USING (outfit_key) JOIN item USING (item_key) "
        "WHERE origin = 'mix' GROUP BY 1"
    )
    with database.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def test_keys_come_in_the_order_given_and_the_second_time_the_same(
    database: Database, keys: CatalogKeys
) -> None:
    found = add(database, keys)
    assert found.dtype == np.int32
    assert found.tolist() == [21, 22, 23]
    assert mixes(database) == {
        "mix-b": ["i07", "i02", "i04"],
        "mix-a": ["i07", "i02"],
        "o00b": ["i07", "i02"],
    }
    assert add(database, keys).tolist() == found.tolist()
    assert add(database, keys, ["mix-b", "mix-c", "mix-a"])[[0, 2]].tolist() == [21, 22]
    assert add(database, keys, []).tolist() == []
    assert len(mixes(database)) == 4


def test_an_outfit_keeps_its_items(database: Database, keys: CatalogKeys) -> None:
    with pytest.raises(DataError, match="mix 'o03' has other items"):
        add(database, keys, ["mix-b", "o03"])
    assert mixes(database) == {}


def test_the_catalog_has_only_mixes_that_somebody_likes(
    database: Database, keys: CatalogKeys
) -> None:
    with database.connect() as connection:
        before = read_catalog(connection)
    made = add(database, keys)
    with database.connect() as connection:
        catalog = read_catalog(connection)
        assert catalog.outfit_ids == before.outfit_ids
        np.testing.assert_array_equal(catalog.outfit_items, before.outfit_items)
        np.testing.assert_array_equal(read_keys(connection).outfits, keys.outfits)
    with database.begin() as connection:
        write(connection, folder(interactions=[("u05", "mix-a", None)]))
        catalog, now = read_catalog(connection), read_keys(connection)
    assert set(catalog.outfit_ids) - set(before.outfit_ids) == {"mix-a"}
    index = catalog.outfit_ids.index("mix-a")
    assert now.outfits[index] == made[1]
    assert catalog.outfit_items[index].tolist() == [7, 2]
    assert [5, index] in catalog.positives.tolist()


def test_an_imported_mix_is_the_shops_and_keeps_its_items(
    database: Database, keys: CatalogKeys
) -> None:
    made = add(database, keys)
    with database.begin() as connection, pytest.raises(DataError, match="'mix-a' is in the cat"):
        write(connection, folder(outfits=[("mix-a", ["i01", "i02"], True)]))
    with database.begin() as connection:
        counts = write(connection, folder(outfits=[("mix-a", ["i02", "i07"], True)]))
        assert (counts.outfits.added, counts.outfits.updated) == (0, 1)
        assert made[1] in read_keys(connection).outfits
    assert set(mixes(database)) == {"mix-b", "o00b"}
    assert add(database, keys).tolist() == made.tolist()
    assert set(mixes(database)) == {"mix-b", "o00b"}


def test_only_what_nothing_refers_to_is_dropped(database: Database, keys: CatalogKeys) -> None:
    with database.begin() as connection:
        assert drop_unused_mixes(connection) == 0
    made = add(database, keys)
    extended = dataclasses.replace(keys, outfits=np.concatenate([keys.outfits, made]))
    with database.begin() as connection:
        write(connection, folder(interactions=[("u05", "mix-a", None)]))
    lists = {user: [20, 9] for user in range(6)}
    write_run(database, extended, run_lists(lists), shown=2)
    with database.begin() as connection:
        assert drop_unused_mixes(connection) == 1
    assert set(mixes(database)) == {"mix-b", "mix-a"}
    for _ in range(2):
        write_run(database, keys, run_lists({user: [8, 9] for user in range(6)}), shown=2)
    drop_old_runs(database, 2)
    with database.begin() as connection:
        assert drop_unused_mixes(connection) == 1
    assert set(mixes(database)) == {"mix-a"}
