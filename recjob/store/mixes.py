"""Mixes: outfits that the nightly run combined, as rows of the catalog with a mark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from recjob.catalog.catalog import PADDING, Int32Array
from recjob.errors import DataError
from recjob.store.bulk import copy_in, copy_out


def add_mixes(connection: Connection, mix_ids: Sequence[str], item_keys: Int32Array) -> Int32Array:
    """Put mixes into the catalog, in the caller's transaction; `(n,)` int32 their outfit keys.

    `mix_ids`: n different ids; `item_keys` (n, M): the database's keys of their items, in the order
    they are shown in, padded with PADDING. A mix that is there already keeps its row and key, so
    that a night that is started again adds nothing twice.

    Raises DataError where an id names an outfit of other items.
    """
    if len(mix_ids) != len(item_keys):
        raise ValueError(f"{len(mix_ids)} ids for {len(item_keys)} mixes")
    if len(mix_ids) == 0:
        return np.empty(0, np.int32)
    row, column = np.nonzero(item_keys != PADDING)
    _stage(
        connection,
        "new_mix",
        'number integer, outfit_id text COLLATE "C"',
        {
            "number": np.arange(len(mix_ids), dtype=np.int32),
            "outfit_id": pa.array(mix_ids, pa.string()),
        },
    )
    _stage(
        connection,
        "new_mix_item",
        "number integer, item_key integer, place smallint",
        {
            "number": row.astype(np.int32),
            "item_key": item_keys[row, column].astype(np.int32),
            "place": column.astype(np.int16),
        },
    )
    _refuse_other_items(connection)
    # Not ON CONFLICT, which would use up a key for every mix that is there (catalog_import).
    connection.execute(
        text(
            "INSERT INTO outfit (outfit_id, origin) SELECT outfit_id, 'mix' FROM new_mix "
            "WHERE NOT EXISTS (SELECT FROM outfit WHERE outfit.outfit_id = new_mix.outfit_id) "
            "ORDER BY number"
        )
    )
    connection.execute(
        text(
            "INSERT INTO outfit_item (outfit_key, item_key, place) "
            "SELECT outfit_key, item_key, place FROM new_mix_item JOIN new_mix USING (number) "
            "JOIN outfit USING (outfit_id) WHERE NOT EXISTS "
            "(SELECT FROM outfit_item WHERE outfit_item.outfit_key = outfit.outfit_key) "
            "ORDER BY outfit_key, place"
        )
    )
    keys = copy_out(
        connection,
        "SELECT outfit_key FROM new_mix JOIN outfit USING (outfit_id) ORDER BY number",
        {"key": "i4"},
    )["key"]
    connection.execute(text("DROP TABLE new_mix, new_mix_item"))
    return keys.astype(np.int32)


def drop_unused_mixes(connection: Connection) -> int:
    """Delete the mixes that no interaction and no kept run refers to; how many.

    Not while a run is loaded and not yet kept: its lists are not looked at.
    """
    return int(connection.execute(text("SELECT drop_unused_mixes()")).scalar_one())


def _stage(
    connection: Connection,
    table: str,
    definition: str,
    columns: dict[str, Int32Array | pa.Array],
) -> None:
    """A temporary table with `columns`, analysed, for its joins."""
    connection.execute(text(f"CREATE TEMPORARY TABLE {table} ({definition}) ON COMMIT DROP"))
    copy_in(connection, table, columns)
    connection.execute(text(f"ANALYZE {table}"))


def _refuse_other_items(connection: Connection) -> None:
    """An outfit that is there keeps its items: users liked, and lists name, what it is."""
    changed = connection.scalar(
        text(
            """
            WITH old AS (
                SELECT number, item_key FROM new_mix
                JOIN outfit USING (outfit_id) JOIN outfit_item USING (outfit_key)
            ), new AS (
                SELECT number, item_key FROM new_mix_item JOIN new_mix USING (number)
                WHERE EXISTS (SELECT FROM outfit WHERE outfit.outfit_id = new_mix.outfit_id)
            )
            SELECT outfit_id FROM old FULL JOIN new USING (number, item_key)
            JOIN new_mix USING (number)
            WHERE old.item_key IS NULL OR new.item_key IS NULL ORDER BY number LIMIT 1
            """
        )
    )
    if changed is not None:
        raise DataError(
            f"mix {changed!r} has other items than the outfit of that id in the catalog; give the "
            "outfit another id"
        )
