"""The catalog in Postgres, read as dense arrays; `catalog_import` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from recjob.catalog.catalog import (
    NO_PART,
    NO_TIME,
    PADDING,
    Catalog,
    Int8Array,
    Int32Array,
    Int64Array,
)
from recjob.store.bulk import EPOCH_MICROSECONDS, copy_out, copy_table_out


@dataclass(frozen=True)
class CatalogKeys:
    """The database's integer keys of a catalog's entities, aligned with its indices."""

    items: Int32Array
    """(n_items,)"""
    outfits: Int32Array
    """(n_outfits,)"""
    users: Int32Array
    """(n_users,)"""

    def item_index(self, wanted: Int32Array) -> Int32Array:
        """The catalog's index of each key; -1 where there is none."""
        return _indices(self.items, wanted)

    def outfit_index(self, wanted: Int32Array) -> Int32Array:
        """The catalog's index of each key; -1 where there is none."""
        return _indices(self.outfits, wanted)

    def user_index(self, wanted: Int32Array) -> Int32Array:
        """The catalog's index of each key; -1 where there is none."""
        return _indices(self.users, wanted)


def known_items(connection: Connection) -> frozenset[str]:
    """Ids of all items."""
    return frozenset(_ids(connection, "SELECT item_id FROM item"))


def known_outfits(connection: Connection) -> frozenset[str]:
    """Ids of all outfits."""
    return frozenset(_ids(connection, "SELECT outfit_id FROM outfit"))


def quarantined_items(connection: Connection) -> dict[str, str]:
    """Why, by item id, of every item that has no usable picture."""
    rows = connection.execute(
        text(
            "SELECT item_id, quarantine_reason FROM item WHERE quarantine_reason IS NOT NULL "
            "ORDER BY item_id"
        )
    )
    return {row.item_id: row.quarantine_reason for row in rows}


def item_images(connection: Connection, item_ids: Sequence[str]) -> dict[str, str]:
    """The path of each item's picture in the folder that it was imported from, by item id."""
    rows = connection.execute(
        text("SELECT item_id, image FROM item WHERE item_id = ANY (:ids)"), {"ids": list(item_ids)}
    )
    return {row.item_id: row.image for row in rows}


def item_attributes(connection: Connection, wanted: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """`(n_items, len(wanted))` True where the item's attribute NAME is VALUE, of (NAME, VALUE).

    In the order of the catalog's items. An attribute that is not a text counts by its text.
    """
    columns = [
        # One character per item is the least that a query with parameters can give back.
        connection.execute(
            text(
                "SELECT string_agg(CASE WHEN attributes ->> :name = :value THEN '1' ELSE '0' END, "
                "'' ORDER BY item_id) FROM item"
            ),
            {"name": name, "value": value},
        ).scalar_one()
        for name, value in wanted
    ]
    if not columns:
        n_items = connection.execute(text("SELECT count(*) FROM item")).scalar_one()
        return np.zeros((n_items, 0), np.bool_)
    return np.stack([np.frombuffer((c or "").encode(), "S1") == b"1" for c in columns], axis=1)


_LEARNED = (
    "(origin = 'shop' OR EXISTS "
    "(SELECT FROM interaction WHERE interaction.outfit_key = outfit.outfit_key))"
)
"""Mixes belong to the run that made them, until a user likes one."""


def read_catalog(connection: Connection) -> Catalog:
    """The whole catalog: the shop's outfits, and of the mixes those that a user likes.

    Call it in one transaction with `read_keys` where both are needed.
    """
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
        f"SELECT outfit_id, available FROM outfit WHERE {_LEARNED} ORDER BY outfit_id",  # noqa: S608
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
        **_positives(connection, keys),
    )


def read_keys(connection: Connection) -> CatalogKeys:
    """Keys of every entity in the order of the catalog's indices, that is, of their ids."""
    return CatalogKeys(
        items=_keys(connection, "SELECT item_key FROM item ORDER BY item_id"),
        outfits=_keys(
            connection,
            f"SELECT outfit_key FROM outfit WHERE {_LEARNED} ORDER BY outfit_id",  # noqa: S608
        ),
        users=_keys(connection, "SELECT user_key FROM app_user ORDER BY user_id"),
    )


def _ids(connection: Connection, query: str) -> list[str]:
    ids: list[str] = copy_table_out(connection, query, pa.schema([("id", pa.string())]))[
        "id"
    ].to_pylist()
    return ids


def _keys(connection: Connection, query: str) -> Int32Array:
    return copy_out(connection, query, {"key": "i4"})["key"].astype(np.int32)


def _outfit_items(connection: Connection, keys: CatalogKeys) -> Int32Array:
    join = "outfit_item JOIN outfit USING (outfit_key)"
    query = f"SELECT outfit_key, item_key, place FROM {join} WHERE {_LEARNED}"  # noqa: S608
    rows = copy_out(
        connection,
        query,
        {"outfit": "i4", "item": "i4", "place": "i2"},
    )
    outfit, item = keys.outfit_index(rows["outfit"]), keys.item_index(rows["item"])
    order = np.lexsort((rows["place"], outfit))
    sizes = np.bincount(outfit, minlength=len(keys.outfits))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    result = np.full((len(keys.outfits), sizes.max(initial=1)), PADDING, np.int32)
    result[outfit[order], place] = item[order]
    return result


class _Positives(TypedDict):
    positives: Int32Array
    positive_at: Int64Array | None
    positive_part: Int8Array | None


def _positives(connection: Connection, keys: CatalogKeys) -> _Positives:
    rows = copy_out(
        connection,
        # On the wire a time is microseconds since 2000, and -infinity the least int64: NO_TIME.
        "SELECT user_key, outfit_key, coalesce(at, '-infinity'), "
        "coalesce(part, CAST(%(no_part)s AS smallint)) FROM interaction",
        {"user": "i4", "outfit": "i4", "at": "i8", "part": "i2"},
        {"no_part": NO_PART},
    )
    pairs = np.stack([keys.user_index(rows["user"]), keys.outfit_index(rows["outfit"])], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    at, part = rows["at"][order], rows["part"][order].astype(np.int8)
    at[at != NO_TIME] += EPOCH_MICROSECONDS
    return {
        "positives": np.ascontiguousarray(pairs[order]),
        "positive_at": at if (at != NO_TIME).any() else None,
        "positive_part": part if (part != NO_PART).any() else None,
    }


def _indices(keys: Int32Array, wanted: Int32Array) -> Int32Array:
    """The index of each wanted key in `keys`; -1 where it is not there."""
    place = np.full(max(keys.max(initial=0), wanted.max(initial=0)) + 1, PADDING, np.int32)
    place[keys] = np.arange(len(keys), dtype=np.int32)
    return np.where(wanted < 0, PADDING, place[wanted])


def _numbers(values: pa.ChunkedArray) -> Int32Array:
    return np.asarray(values.to_numpy(), dtype=np.int32)


def _flags(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)
