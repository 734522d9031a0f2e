"""The catalog in Postgres: write an imported folder, read the dense catalog.

New rows are inserted and changed rows updated, found by joins with temporary tables. That is not
`INSERT ... ON CONFLICT`, which draws a new key for every row that is there already: an import of a
million items each night would use up the integer keys within years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from recjob.catalog.catalog import PADDING, Catalog, Int32Array
from recjob.catalog.tables import FolderTables
from recjob.errors import DataError
from recjob.store.bulk import copy_out, copy_table_in, copy_table_out


@dataclass(frozen=True)
class TableCounts:
    """What an import did to one table, in rows of the folder."""

    added: int
    updated: int
    unchanged: int


@dataclass(frozen=True)
class ImportCounts:
    """What an import did to the catalog."""

    items: TableCounts
    outfits: TableCounts
    interactions: TableCounts
    users: TableCounts
    quarantined: int
    """Items of the folder that have no usable picture."""


@dataclass(frozen=True)
class CatalogKeys:
    """The database's integer keys of a catalog's entities, aligned with its indices."""

    items: Int32Array
    """(n_items,)"""
    outfits: Int32Array
    """(n_outfits,)"""
    users: Int32Array
    """(n_users,)"""


def write_tables(
    connection: Connection,
    tables: FolderTables,
    image_hashes: Sequence[str],
    bad_images: Mapping[str, str],
) -> ImportCounts:
    """Write a checked folder into the catalog; to be called in a transaction of its own.

    `image_hashes` (n_items,): sha256 of each picture of `tables.items`, "" for a bad one;
    `bad_images`: why, by path of the picture. Run twice, the second changes nothing.

    Raises DataError where an outfit that is there already has other items now: likings and lists
    refer to what it was.
    """
    # Another writer in between would make the keys that we are about to make.
    connection.execute(
        text("LOCK TABLE item, outfit, app_user, interaction IN SHARE ROW EXCLUSIVE MODE")
    )
    items = _write_items(connection, tables.items, image_hashes, bad_images)
    outfits = _write_outfits(connection, tables.outfits)
    users = _write_users(connection, tables)
    interactions = _write_interactions(connection, tables.interactions)
    for table in ("item", "outfit", "outfit_item", "app_user", "interaction"):
        connection.execute(text(f"DROP TABLE IF EXISTS new_{table}"))
    quarantined = sum(not image for image in image_hashes)
    return ImportCounts(items, outfits, interactions, users, quarantined)


def known_items(connection: Connection) -> frozenset[str]:
    """Ids of all items."""
    return frozenset(_ids(connection, "SELECT item_id FROM item"))


def known_outfits(connection: Connection) -> frozenset[str]:
    """Ids of all outfits."""
    return frozenset(_ids(connection, "SELECT outfit_id FROM outfit"))


def read_catalog(connection: Connection) -> Catalog:
    """The whole catalog. Call it in one transaction with `read_keys` where both are needed."""
    items = copy_table_out(
        connection,
        "SELECT item_id, category, coalesce(image_sha256, '') AS image, available "
        "FROM item ORDER BY item_id",
        pa.schema(
            [
                ("item_id", pa.string()),
                ("category", pa.string()),
                ("image", pa.string()),
                ("available", pa.bool_()),
            ]
        ),
    )
    outfits = copy_table_out(
        connection,
        "SELECT outfit_id, available FROM outfit ORDER BY outfit_id",
        pa.schema([("outfit_id", pa.string()), ("available", pa.bool_())]),
    )
    keys = read_keys(connection)
    categories = pc.unique(items["category"]).sort()
    return Catalog(
        categories=tuple(categories.to_pylist()),
        item_ids=tuple(items["item_id"].to_pylist()),
        item_category=_numbers(pc.index_in(items["category"], value_set=categories)),
        item_image=tuple(items["image"].to_pylist()),
        item_available=_flags(items["available"]),
        outfit_ids=tuple(outfits["outfit_id"].to_pylist()),
        outfit_items=_outfit_items(connection, keys),
        outfit_available=_flags(outfits["available"]),
        user_ids=tuple(_ids(connection, "SELECT user_id FROM app_user ORDER BY user_id")),
        positives=_positives(connection, keys),
    )


def read_keys(connection: Connection) -> CatalogKeys:
    """Keys of every entity in the order of the catalog's indices, that is, of their ids."""
    return CatalogKeys(*(_keys(connection, name) for name in ("item", "outfit", "app_user")))


def data_fingerprint(catalog: Catalog) -> str:
    """sha256 (hex) of what a model learns from: items, pictures, outfits, users, positives.

    Availability is left out: it changes every day and teaches nothing.
    """
    digest = hashlib.sha256()
    texts: tuple[Sequence[str], ...] = (
        catalog.categories,
        catalog.item_ids,
        catalog.item_image,
        catalog.outfit_ids,
        catalog.user_ids,
    )
    for values in texts:
        column = pa.array(values, pa.large_string())
        _, offsets, data = column.buffers()
        digest.update(len(column).to_bytes(8, "little"))
        digest.update(np.frombuffer(offsets, "<i8")[: len(column) + 1].tobytes())
        digest.update(data or b"")
    arrays: tuple[NDArray[Any], ...] = (
        catalog.item_category,
        catalog.outfit_items,
        catalog.positives,
    )
    for array in arrays:
        digest.update(np.array(array.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(array, "<i4").tobytes())
    return digest.hexdigest()


def _write_items(
    connection: Connection, items: pa.Table, hashes: Sequence[str], bad: Mapping[str, str]
) -> TableCounts:
    if len(hashes) != items.num_rows:
        raise ValueError(f"{len(hashes)} image hashes for {items.num_rows} items")
    images = pa.array(hashes, pa.string())
    no_image = pc.equal(images, "")
    unexplained = set(items["image"].filter(no_image).to_pylist()) - bad.keys()
    if unexplained:
        raise ValueError(f"no reason given for the bad picture {min(unexplained)}")
    reasons = pc.index_in(items["image"], value_set=pa.array(list(bad), pa.string()))
    reason = pa.chunked_array([pa.array(list(bad.values()), pa.string())]).take(reasons)
    nothing = pa.scalar(None, pa.string())
    _stage(
        connection,
        "new_item",
        'item_id text COLLATE "C", category text, image text, available boolean, '
        "attributes jsonb, image_sha256 text, quarantine_reason text",
        items.append_column("image_sha256", pc.if_else(no_image, nothing, images)).append_column(
            "quarantine_reason", pc.if_else(no_image, reason, nothing)
        ),
    )
    columns = "category, image, image_sha256, quarantine_reason, available, attributes"
    old, new = (
        ", ".join(f"{table}.{name.strip()}" for name in columns.split(","))
        for table in ("item", "new_item")
    )
    updated = connection.execute(
        text(
            f"UPDATE item SET ({columns}) = ROW ({new}) FROM new_item "  # noqa: S608
            f"WHERE item.item_id = new_item.item_id AND ROW ({old}) IS DISTINCT FROM ROW ({new})"
        )
    ).rowcount
    added = connection.execute(
        text(
            f"INSERT INTO item (item_id, {columns}) SELECT item_id, {columns} "  # noqa: S608
            "FROM new_item WHERE NOT EXISTS "
            "(SELECT FROM item WHERE item.item_id = new_item.item_id) ORDER BY item_id"
        )
    ).rowcount
    return TableCounts(added, updated, items.num_rows - added - updated)


def _write_outfits(connection: Connection, outfits: pa.Table) -> TableCounts:
    _stage(
        connection,
        "new_outfit",
        'outfit_id text COLLATE "C", available boolean',
        outfits.select(["outfit_id", "available"]),
    )
    _stage_outfit_items(connection, outfits)
    _refuse_changed_outfits(connection)
    updated = connection.execute(
        text(
            "UPDATE outfit SET available = new_outfit.available FROM new_outfit "
            "WHERE outfit.outfit_id = new_outfit.outfit_id "
            "AND outfit.available <> new_outfit.available"
        )
    ).rowcount
    added = connection.execute(
        text(
            "INSERT INTO outfit (outfit_id, available) SELECT outfit_id, available "
            "FROM new_outfit WHERE NOT EXISTS "
            "(SELECT FROM outfit WHERE outfit.outfit_id = new_outfit.outfit_id) ORDER BY outfit_id"
        )
    ).rowcount
    connection.execute(
        text(
            "INSERT INTO outfit_item (outfit_key, item_key, place) "
            "SELECT outfit_key, item_key, place FROM new_outfit_item "
            "JOIN outfit USING (outfit_id) JOIN item USING (item_id) "
            "WHERE NOT EXISTS "
            "(SELECT FROM outfit_item WHERE outfit_item.outfit_key = outfit.outfit_key) "
            "ORDER BY outfit_key, place"
        )
    )
    return TableCounts(added, updated, outfits.num_rows - added - updated)


def _stage_outfit_items(connection: Connection, outfits: pa.Table) -> None:
    lists = outfits["item_ids"]
    sizes = _numbers(pc.list_value_length(lists)).astype(np.int64)
    rows = np.repeat(np.arange(sizes.size), sizes)
    places = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    _stage(
        connection,
        "new_outfit_item",
        'outfit_id text COLLATE "C", item_id text COLLATE "C", place smallint',
        pa.table(
            {
                "outfit_id": outfits["outfit_id"].take(pa.array(rows)),
                "item_id": pc.list_flatten(lists),
                "place": pa.array(places.astype(np.int16)),
            }
        ),
    )
    unknown = connection.execute(
        text(
            "SELECT outfit_id, item_id FROM new_outfit_item WHERE NOT EXISTS "
            "(SELECT FROM item WHERE item.item_id = new_outfit_item.item_id) "
            "ORDER BY outfit_id, place LIMIT 1"
        )
    ).one_or_none()
    if unknown is not None:
        raise DataError(
            f"outfit {unknown.outfit_id!r}: unknown item {unknown.item_id!r}; import the items "
            "first"
        )


def _refuse_changed_outfits(connection: Connection) -> None:
    """An outfit that is there keeps its items, in whatever order they come."""
    changed = connection.execute(
        text(
            """
            WITH old AS (
                SELECT outfit_id, item_id
                FROM new_outfit
                JOIN outfit USING (outfit_id)
                JOIN outfit_item USING (outfit_key)
                JOIN item USING (item_key)
            ), new AS (
                SELECT outfit_id, item_id FROM new_outfit_item
                WHERE EXISTS (SELECT FROM outfit WHERE outfit.outfit_id = new_outfit_item.outfit_id)
            )
            SELECT outfit_id, old.item_id AS gone, new.item_id AS come
            FROM old FULL JOIN new USING (outfit_id, item_id)
            WHERE old.item_id IS NULL OR new.item_id IS NULL
            ORDER BY outfit_id, come, gone LIMIT 1
            """
        )
    ).one_or_none()
    if changed is not None:
        change = (
            f"has item {changed.come!r}, which it did not have"
            if changed.come is not None
            else f"lacks item {changed.gone!r}, which it had"
        )
        raise DataError(
            f"outfit {changed.outfit_id!r} is in the catalog and now {change}; users liked what it "
            "was: give the changed outfit a new id"
        )


def _write_users(connection: Connection, tables: FolderTables) -> TableCounts:
    ids = pa.chunked_array(
        [*tables.users["user_id"].chunks, *tables.interactions["user_id"].chunks], pa.string()
    )
    users = pa.table({"user_id": pc.unique(ids)})
    _stage(connection, "new_app_user", 'user_id text COLLATE "C"', users)
    added = connection.execute(
        text(
            "INSERT INTO app_user (user_id) SELECT user_id FROM new_app_user WHERE NOT EXISTS "
            "(SELECT FROM app_user WHERE app_user.user_id = new_app_user.user_id) ORDER BY user_id"
        )
    ).rowcount
    return TableCounts(added, 0, users.num_rows - added)


def _write_interactions(connection: Connection, interactions: pa.Table) -> TableCounts:
    _stage(
        connection,
        "new_interaction",
        'user_id text COLLATE "C", outfit_id text COLLATE "C", at timestamptz',
        interactions,
    )
    unknown = connection.scalar(
        text(
            "SELECT outfit_id FROM new_interaction WHERE NOT EXISTS "
            "(SELECT FROM outfit WHERE outfit.outfit_id = new_interaction.outfit_id) "
            "ORDER BY outfit_id LIMIT 1"
        )
    )
    if unknown is not None:
        raise DataError(f"interactions: unknown outfit {unknown!r}; import the outfits first")
    # The earliest time stays, as it does within a folder, so that the order of imports is no matter
    updated = connection.execute(
        text(
            "UPDATE interaction SET at = least(interaction.at, new.at) "
            "FROM new_interaction AS new JOIN app_user USING (user_id) "
            "JOIN outfit USING (outfit_id) "
            "WHERE interaction.user_key = app_user.user_key "
            "AND interaction.outfit_key = outfit.outfit_key "
            "AND new.at IS NOT NULL AND (interaction.at IS NULL OR new.at < interaction.at)"
        )
    ).rowcount
    added = connection.execute(
        text(
            "INSERT INTO interaction (user_key, outfit_key, at) SELECT user_key, outfit_key, at "
            "FROM new_interaction JOIN app_user USING (user_id) JOIN outfit USING (outfit_id) "
            "WHERE NOT EXISTS (SELECT FROM interaction "
            "WHERE interaction.user_key = app_user.user_key "
            "AND interaction.outfit_key = outfit.outfit_key) ORDER BY user_key, outfit_key"
        )
    ).rowcount
    return TableCounts(added, updated, interactions.num_rows - added - updated)


def _stage(connection: Connection, table: str, columns: str, rows: pa.Table) -> None:
    """A temporary table with `rows`, analysed, for its joins."""
    connection.execute(text(f"CREATE TEMPORARY TABLE {table} ({columns}) ON COMMIT DROP"))
    copy_table_in(connection, table, rows)
    connection.execute(text(f"ANALYZE {table}"))


def _ids(connection: Connection, query: str) -> list[str]:
    ids: list[str] = copy_table_out(connection, query, pa.schema([("id", pa.string())]))[
        "id"
    ].to_pylist()
    return ids


def _keys(connection: Connection, name: str) -> Int32Array:
    entity = name.removeprefix("app_")
    query = f"SELECT {entity}_key FROM {name} ORDER BY {entity}_id"  # noqa: S608
    return copy_out(connection, query, {"key": "i4"})["key"].astype(np.int32)


def _outfit_items(connection: Connection, keys: CatalogKeys) -> Int32Array:
    rows = copy_out(
        connection,
        "SELECT outfit_key, item_key, place FROM outfit_item",
        {"outfit": "i4", "item": "i4", "place": "i2"},
    )
    outfit, item = _indices(keys.outfits, rows["outfit"]), _indices(keys.items, rows["item"])
    order = np.lexsort((rows["place"], outfit))
    sizes = np.bincount(outfit, minlength=len(keys.outfits))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    result = np.full((len(keys.outfits), sizes.max(initial=1)), PADDING, np.int32)
    result[outfit[order], place] = item[order]
    return result


def _positives(connection: Connection, keys: CatalogKeys) -> Int32Array:
    rows = copy_out(
        connection,
        "SELECT user_key, outfit_key FROM interaction",
        {"user": "i4", "outfit": "i4"},
    )
    pairs = np.stack(
        [_indices(keys.users, rows["user"]), _indices(keys.outfits, rows["outfit"])], axis=1
    )
    return np.ascontiguousarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def _indices(keys: Int32Array, wanted: Int32Array) -> Int32Array:
    """The index of each wanted key in `keys`."""
    place = np.full(keys.max(initial=0) + 1, PADDING, np.int32)
    place[keys] = np.arange(len(keys), dtype=np.int32)
    return place[wanted]


def _numbers(values: pa.ChunkedArray) -> Int32Array:
    return np.asarray(values.to_numpy(), dtype=np.int32)


def _flags(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)
