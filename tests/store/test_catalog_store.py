"""The catalog read back equals the catalog made from the same tables without a database."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import Catalog
from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.fingerprint import data_fingerprint
from recjob.catalog.tables import FolderTables
from recjob.store.catalog_store import (
    item_attributes,
    known_items,
    known_outfits,
    read_catalog,
    read_keys,
)
from recjob.store.database import Database
from tests.store.folders import folder, sha, shop, write


def uneven() -> FolderTables:
    """Ids whose order differs between alphabets, outfits of 1 to 4 items, one bad picture."""
    ids = ["a", "B", "ä", "Z", "_", "10", "9", "é", "z", "日"]
    return folder(
        items=[(name, f"c{n % 3}", f"{n}.jpg", n % 4 != 0, "{}") for n, name in enumerate(ids)],
        outfits=[
            (f"o-{name}", [ids[(n + k) % len(ids)] for k in range(1 + n % 4)], n % 5 != 0)
            for n, name in enumerate(ids)
        ],
        interactions=[
            (
                name,
                f"o-{ids[(n * 3 + k) % 10]}",
                datetime(1955 + 7 * n, 1, 1, 2, 3, 4, 5 + k, tzinfo=UTC) if k else None,
                (None, "train", "validation", "test")[(n + k) % 4],
            )
            for n, name in enumerate(ids)
            for k in range(3)
        ],
        users=["stranger", "Astranger"],
    )


def assert_equal(found: Catalog, expected: Catalog) -> None:
    for field in dataclasses.fields(Catalog):
        value = getattr(expected, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, field.name), value)
            assert getattr(found, field.name).dtype == value.dtype
        else:
            assert getattr(found, field.name) == value


@pytest.mark.parametrize("make", [shop, uneven])
def test_read_back(database: Database, make: Callable[[], FolderTables]) -> None:
    tables = make()
    bad = {"2.jpg": "broken"}
    images = tables.items["image"].to_pylist()
    expected = to_catalog(tables, ["" if image in bad else sha(image) for image in images])
    with database.begin() as connection:
        write(connection, tables, bad)
        catalog = read_catalog(connection)
        keys = read_keys(connection)
        rows = connection.execute(text("SELECT outfit_key, outfit_id FROM outfit"))
        ids: dict[int, str] = {row.outfit_key: row.outfit_id for row in rows}
        assert known_items(connection) == set(expected.item_ids)
        assert known_outfits(connection) == set(expected.outfit_ids)
    assert_equal(catalog, expected)
    assert tuple(ids[key] for key in keys.outfits.tolist()) == catalog.outfit_ids
    assert data_fingerprint(catalog) == data_fingerprint(expected)


def test_an_empty_catalog(database: Database) -> None:
    with database.connect() as connection:
        catalog = read_catalog(connection)
    assert (catalog.n_items, catalog.n_outfits, catalog.n_users) == (0, 0, 0)
    assert catalog.outfit_items.shape == (0, 1)
    assert catalog.positives.shape == (0, 2)


def test_later_imports_are_read_in_order(database: Database) -> None:
    """Keys follow the order of arrival, indices the order of ids."""
    with database.begin() as connection:
        write(
            connection,
            folder(items=[("m", "top", "m.jpg", True, "{}")], outfits=[("m", ["m"], True)]),
        )
        write(
            connection,
            folder(items=[("a", "bag", "a.jpg", True, "{}")], outfits=[("a", ["m", "a"], True)]),
        )
        write(
            connection, folder(interactions=[("z", "a", None), ("z", "m", None), ("b", "m", None)])
        )
        catalog = read_catalog(connection)
        keys = read_keys(connection)
    assert catalog.item_ids == ("a", "m")
    assert keys.items.tolist() == [2, 1]
    assert catalog.outfit_items.tolist() == [[1, 0], [1, -1]]
    assert catalog.user_ids == ("b", "z")
    assert catalog.positives.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_item_attributes_are_read_in_the_order_of_the_items(database: Database) -> None:
    attributes = {
        "m": '{"colour": "red", "size": "7"}',
        "B": '{"colour": "reddish", "it\'s": "100%"}',
        "ä": "{}",
        "a": '{"colour": "red"}',
    }
    wanted = [("colour", "red"), ("it's", "100%"), ("size", "7"), ("colour", "' OR true --")]
    with database.begin() as connection:
        assert item_attributes(connection, wanted).shape == (0, 4)
        assert item_attributes(connection, []).shape == (0, 0)
        rows = [(name, "top", f"{name}.jpg", True, json) for name, json in attributes.items()]
        write(connection, folder(items=rows))
        found = item_attributes(connection, wanted)
        item_ids = read_catalog(connection).item_ids
        assert item_attributes(connection, []).shape == (4, 0)
    assert item_ids == ("B", "a", "m", "ä")
    expected = {"B": [0, 1, 0, 0], "a": [1, 0, 0, 0], "m": [1, 0, 1, 0], "ä": [0, 0, 0, 0]}
    assert found.dtype == np.bool_
    assert found.astype(int).tolist() == [expected[name] for name in item_ids]


def test_the_fingerprint_sees_what_is_learned_from() -> None:
    tables = shop()
    hashes = [sha(image) for image in tables.items["image"].to_pylist()]
    catalog = to_catalog(tables, hashes)
    changed = [
        dataclasses.replace(catalog, positives=catalog.positives[:-1]),
        dataclasses.replace(catalog, item_image=("", *catalog.item_image[1:])),
        dataclasses.replace(catalog, outfit_items=catalog.outfit_items[:, ::-1]),
        dataclasses.replace(catalog, user_ids=("u0", "0u01", *catalog.user_ids[2:])),
    ]
    prints = {data_fingerprint(one) for one in (catalog, *changed)}
    assert len(prints) == 1 + len(changed)
    gone = dataclasses.replace(catalog, item_available=~catalog.item_available)
    assert data_fingerprint(gone) == data_fingerprint(catalog)
