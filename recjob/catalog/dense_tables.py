"""Tables of the import format as the dense catalog, for work without a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import (
    NO_PART,
    NO_TIME,
    PADDING,
    Catalog,
    Int8Array,
    Int64Array,
)
from recjob.catalog.table_files import show, to_numpy
from recjob.catalog.tables import PART_CODES, PARTS, FolderTables
from recjob.errors import DataError


def to_catalog(tables: FolderTables, image_hashes: Sequence[str]) -> Catalog:
    """The dense catalog of a folder that is complete in itself.

    `image_hashes` (n_items,) is the sha256 of each picture of `tables.items`, "" for a bad one.

    Raises DataError when an outfit or an item is only known to a database.
    """
    items = tables.items
    if len(image_hashes) != items.num_rows:
        raise ValueError(f"{len(image_hashes)} image hashes for {items.num_rows} items")
    item_ids, item_order = _sorted(items["item_id"])
    categories, _ = _sorted(pc.unique(items["category"]))
    outfit_ids, outfit_order = _sorted(tables.outfits["outfit_id"])
    users = pa.chunked_array(
        [*tables.users["user_id"].chunks, *tables.interactions["user_id"].chunks], pa.string()
    )
    user_ids, _ = _sorted(pc.unique(users))

    lists = tables.outfits["item_ids"].take(pa.array(outfit_order))
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(sizes.size), sizes)
    places = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    outfit_items = np.full((sizes.size, sizes.max(initial=1)), PADDING, dtype=np.int32)
    outfit_items[rows, places] = _index(pc.list_flatten(lists), item_ids, "item", tables.folder)

    users_of = _index(tables.interactions["user_id"], user_ids, "user", tables.folder)
    outfits_of = _index(tables.interactions["outfit_id"], outfit_ids, "outfit", tables.folder)
    # One number per pair sorts much faster than rows of two.
    pairs = users_of * len(outfit_ids) + outfits_of
    order = np.argsort(pairs)
    positives = np.stack(np.divmod(pairs[order], max(1, len(outfit_ids))), axis=1).astype(np.int32)
    return Catalog(
        categories=tuple(categories.to_pylist()),
        item_ids=tuple(item_ids.to_pylist()),
        item_category=_index(items["category"], categories, "category", tables.folder)[
            item_order
        ].astype(np.int32),
        item_image=tuple(image_hashes[row] for row in item_order),
        item_available=to_numpy(items["available"])[item_order],
        outfit_ids=tuple(outfit_ids.to_pylist()),
        outfit_items=outfit_items,
        outfit_available=to_numpy(tables.outfits["available"])[outfit_order],
        user_ids=tuple(user_ids.to_pylist()),
        positives=positives,
        positive_at=_times(tables.interactions["at"], order),
        positive_part=_parts(tables.interactions["part"], order),
    )


def _times(at: pa.ChunkedArray, order: Int64Array) -> Int64Array | None:
    if at.null_count == len(at):
        return None
    microseconds = pc.fill_null(at.cast(pa.int64()), NO_TIME).to_numpy()
    return np.asarray(microseconds[order], dtype=np.int64)


def _parts(part: pa.ChunkedArray, order: Int64Array) -> Int8Array | None:
    return part_codes(part)[order] if part.null_count < len(part) else None


def part_codes(part: pa.ChunkedArray) -> Int8Array:
    """(n,) words of the column `part` as numbers of `Catalog.positive_part`."""
    codes = pc.fill_null(pc.index_in(part, value_set=pa.array(PARTS)), NO_PART)
    numbers = np.array([*PART_CODES.values(), NO_PART], np.int8)
    return np.asarray(numbers[codes.to_numpy()])


def _sorted(ids: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Int64Array]:
    order = pc.sort_indices(ids)
    values = ids.take(order)
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], pa.string())
    return values, order.to_numpy().astype(np.int64)


def _index(values: Any, ids: pa.Array, what: str, folder: Path) -> Int64Array:
    codes = pc.index_in(values, value_set=ids)
    if codes.null_count:
        first = values.filter(pc.is_null(codes))[0].as_py()
        raise DataError(f"{folder}: {what} {show(first)} is not in this folder; add it")
    return np.asarray(codes.to_numpy(), dtype=np.int64)
