"""Write an imported folder into the catalog in Postgres.

New rows are inserted and changed rows updated, found by joins with temporary tables. That is not
`INSERT ... ON CONFLICT`, which draws a new key for every row that is there already: an import of a
million items each night would use up the integer keys within years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from recjob.catalog.tables import PART_CODES, PARTS, FolderTables
from recjob.errors import DataError
from recjob.settings import SnapshotSettings
from recjob.store.bulk import copy_table_in
from recjob.store.evaluation_lists import write_given_negatives
from recjob.store.snapshot import Withdrawal, withdraw_absent

MAX_ID_BYTES = 1000
"""An index of Postgres takes no more than 2704 bytes, and no id needs as much."""


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
    items_withdrawn: Withdrawal | None = None
    """None where the folder is no snapshot, or says nothing of items."""
    outfits_withdrawn: Withdrawal | None = None
    """Likewise of outfits."""


def write_tables(
    connection: Connection,
    tables: FolderTables,
    image_hashes: Sequence[str],
    bad_images: Mapping[str, str],
    snapshot: SnapshotSettings | None = None,
) -> ImportCounts:
    """Write a checked folder into the catalog; to be called in a transaction of its own.

    `image_hashes` (n_items,): sha256 of each picture of `tables.items`, "" for a bad one;
    `bad_images`: why, by path of the picture; `snapshot`: the folder is all that the shop has, and
    these are the limits. Run twice, the second changes nothing.

    Raises DataError where an outfit that is there already has other items now: likings and lists
    refer to what it was. RefusedError where a snapshot lacks too much.
    """
    for table, column in (
        (tables.items, "item_id"),
        (tables.outfits, "outfit_id"),
        (tables.interactions, "user_id"),
        (tables.users, "user_id"),
    ):
        _refuse_long_ids(table[column])
    # Another writer in between would make the keys that we are about to make.
    connection.execute(
        text("LOCK TABLE item, outfit, app_user, interaction IN SHARE ROW EXCLUSIVE MODE")
    )
    _stage_items(connection, tables.items, image_hashes, bad_images)
    _stage_outfits(connection, tables.outfits)
    gone_items = gone_outfits = None
    # A folder without items, or without outfits, says nothing of them.
    if snapshot is not None and tables.items.num_rows:
        gone_items = withdraw_absent(connection, "item", snapshot.max_item_loss)
    if snapshot is not None and tables.outfits.num_rows:
        gone_outfits = withdraw_absent(connection, "outfit", snapshot.max_outfit_loss)
    items = _write_items(connection, tables.items)
    outfits = _write_outfits(connection, tables.outfits)
    users = _write_users(connection, tables)
    interactions = _write_interactions(connection, tables.interactions)
    write_given_negatives(connection, tables.negatives)
    for table in ("item", "outfit", "outfit_item", "app_user", "interaction"):
        connection.execute(text(f"DROP TABLE IF EXISTS new_{table}"))
    connection.execute(text("SELECT analyze_catalog()"))
    quarantined = sum(not image for image in image_hashes)
    return ImportCounts(items, outfits, interactions, users, quarantined, gone_items, gone_outfits)


def _refuse_long_ids(ids: pa.ChunkedArray) -> None:
    long = ids.filter(pc.greater(pc.binary_length(ids), MAX_ID_BYTES))
    if len(long):
        raise DataError(
            f"an id begins with {long[0].as_py()[:20]!r} and is longer than {MAX_ID_BYTES} bytes; "
            "shorten it"
        )


def _stage_items(
    connection: Connection, items: pa.Table, hashes: Sequence[str], bad: Mapping[str, str]
) -> None:
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


def _write_items(connection: Connection, items: pa.Table) -> TableCounts:
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


def _stage_outfits(connection: Connection, outfits: pa.Table) -> None:
    _stage(
        connection,
        "new_outfit",
        'outfit_id text COLLATE "C", available boolean',
        outfits.select(["outfit_id", "available"]),
    )


def _write_outfits(connection: Connection, outfits: pa.Table) -> TableCounts:
    _stage_outfit_items(connection, outfits)
    _refuse_changed_outfits(connection)
    updated = connection.execute(
        text(
            # A mix that the shop now sells is the shop's.
            "UPDATE outfit SET available = new_outfit.available, origin = 'shop' FROM new_outfit "
            "WHERE outfit.outfit_id = new_outfit.outfit_id "
            "AND (outfit.available <> new_outfit.available OR outfit.origin <> 'shop')"
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
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
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
        'user_id text COLLATE "C", outfit_id text COLLATE "C", at timestamptz, part smallint',
        _with_part_codes(interactions),
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
    # The earliest time stays, as it does within a folder, so that the order of imports is no
    # matter. Of the parts the last one counts, and silence changes none.
    updated = connection.execute(
        text(
            "UPDATE interaction SET at = least(interaction.at, new.at), "
            "part = coalesce(new.part, interaction.part) "
            "FROM new_interaction AS new JOIN app_user USING (user_id) "
            "JOIN outfit USING (outfit_id) "
            "WHERE interaction.user_key = app_user.user_key "
            "AND interaction.outfit_key = outfit.outfit_key "
            "AND (new.at IS NOT NULL AND (interaction.at IS NULL OR new.at < interaction.at) "
            "OR new.part IS NOT NULL AND interaction.part IS DISTINCT FROM new.part)"
        )
    ).rowcount
    added = connection.execute(
        text(
            "INSERT INTO interaction (user_key, outfit_key, at, part) "
            "SELECT user_key, outfit_key, at, part FROM new_interaction "
            "JOIN app_user USING (user_id) JOIN outfit USING (outfit_id) "
            "WHERE NOT EXISTS (SELECT FROM interaction "
            "WHERE interaction.user_key = app_user.user_key "
            "AND interaction.outfit_key = outfit.outfit_key) ORDER BY user_key, outfit_key"
        )
    ).rowcount
    return TableCounts(added, updated, interactions.num_rows - added - updated)


def _with_part_codes(interactions: pa.Table) -> pa.Table:
    part = interactions["part"]
    numbers = pa.array(PART_CODES.values(), pa.int16())
    codes = numbers.take(pc.index_in(part, value_set=pa.array(PARTS)).combine_chunks())
    return interactions.set_column(interactions.column_names.index("part"), "part", codes)


def _stage(connection: Connection, table: str, columns: str, rows: pa.Table) -> None:
    """A temporary table with `rows`, analysed, for its joins."""
    connection.execute(text(f"CREATE TEMPORARY TABLE {table} ({columns}) ON COMMIT DROP"))
    copy_table_in(connection, table, rows)
    connection.execute(text(f"ANALYZE {table}"))
