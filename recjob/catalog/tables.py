"""The import format: a folder with items, outfits, interactions and users, CSV or Parquet each.

`read_folder` checks everything before anything is imported; `to_catalog` makes the dense arrays
for work without a database.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int64Array
from recjob.catalog.hashing import UInt64Array, mix
from recjob.catalog.picture_source import FolderPictures, PictureSource
from recjob.catalog.table_columns import (
    UTC,
    read_attributes,
    read_available,
    read_ids,
    read_item_lists,
    read_text,
    read_times,
    refuse_items,
)
from recjob.catalog.table_files import TableFile, read_table_file, show, to_numpy
from recjob.errors import DataError
from recjob.settings import CatalogSettings

ITEMS_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("category", pa.string()),
        ("image", pa.string()),
        ("available", pa.bool_()),
        ("attributes", pa.string()),
    ]
)
OUTFITS_SCHEMA = pa.schema(
    [
        ("outfit_id", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("available", pa.bool_()),
    ]
)
INTERACTIONS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("outfit_id", pa.string()),
        ("at", UTC),
        ("part", pa.string()),
    ]
)
USERS_SCHEMA = pa.schema([("user_id", pa.string())])
NEGATIVES_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("outfit_id", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("kind", pa.string()),
    ]
)

PARTS = ("train", "validation", "validation-teacher", "validation-student", "test")
"""Words of the column `part`; "validation" is halved between teacher and student by the split."""
NEGATIVE_KINDS = ("random", "hard")
"""Words of the column `kind` of negatives; hard ones are liked by other users."""

_OUTSIDE = r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)"


@dataclass(frozen=True)
class FolderTables:
    """The checked tables of a folder; a table that the folder lacks has no rows.

    Ids are unique, and every reference leads to a row here or to the catalog in the database.
    """

    folder: Path
    items: pa.Table
    """`ITEMS_SCHEMA`; `attributes` is the text of a JSON object of strings."""
    outfits: pa.Table
    """`OUTFITS_SCHEMA`; the items of an outfit are distinct, at least one."""
    interactions: pa.Table
    """`INTERACTIONS_SCHEMA`; one row per user and outfit, with the earliest `at`; `part` is one
    of PARTS, or null where the data do not say."""
    users: pa.Table
    """`USERS_SCHEMA`: users who are listed, with or without interactions."""
    negatives: pa.Table
    """`NEGATIVES_SCHEMA`: outfits to rank beside a positive (user_id, outfit_id) of the data's own
    evaluation, in order; `kind` is one of NEGATIVE_KINDS."""
    pictures: PictureSource
    """Has the files that `items.image` names."""


def read_folder(
    folder: Path,
    settings: CatalogSettings,
    known_items: Collection[str] = (),
    known_outfits: Collection[str] = (),
) -> FolderTables:
    """Read and check a folder of the import format.

    `known_items` and `known_outfits` are ids that the catalog in the database already has.

    Raises DataError that names the file, the line and the column of the first mistake.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {problem}; name the folder that holds items, outfits and so on")
    items_file = read_table_file(folder, "items", ("item_id", "category", "image"), None)
    outfits_file = read_table_file(folder, "outfits", ("outfit_id", "item_ids"), ("available",))
    interactions_file = read_table_file(folder, "interactions", ("user_id", "outfit_id"), ("at",))
    users_file = read_table_file(folder, "users", ("user_id",), ())
    if not (items_file or outfits_file or interactions_file or users_file):
        raise DataError(
            f"{folder}: holds no items, outfits, interactions or users as .csv or .parquet"
        )
    items = _items(items_file, folder, settings) if items_file else ITEMS_SCHEMA.empty_table()
    outfits = OUTFITS_SCHEMA.empty_table()
    if outfits_file:
        outfits = _outfits(outfits_file, settings, _union(items["item_id"], known_items))
    interactions = INTERACTIONS_SCHEMA.empty_table()
    if interactions_file:
        interactions = _interactions(interactions_file, _union(outfits["outfit_id"], known_outfits))
    users = _users(users_file) if users_file else USERS_SCHEMA.empty_table()
    negatives = NEGATIVES_SCHEMA.empty_table()
    return FolderTables(
        folder, items, outfits, interactions, users, negatives, FolderPictures(folder)
    )


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
    # The pairs are unique already; one number per pair sorts much faster than rows of two.
    pairs = np.sort(users_of * len(outfit_ids) + outfits_of)
    positives = np.stack(np.divmod(pairs, max(1, len(outfit_ids))), axis=1).astype(np.int32)
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
    )


def _items(file: TableFile, folder: Path, settings: CatalogSettings) -> pa.Table:
    _refuse_no_rows(file)
    ids = read_ids(file, "item_id")
    category = read_ids(file, "category")
    if settings.categories:
        allowed = ", ".join(settings.categories)
        file.refuse(
            pc.invert(pc.is_in(category, pa.array(settings.categories))),
            "category",
            lambda row: (
                f"{show(category[row].as_py())} is not among catalog.categories ({allowed})"
            ),
        )
    image = read_text(file, "image")
    _refuse_outside(file, image, folder)
    available = read_available(file)
    attributes = read_attributes(file)
    kept = _distinct(file, "item_id", ids, [category, image, available, attributes])
    table = pa.table([ids, category, image, available, attributes], schema=ITEMS_SCHEMA)
    return table.filter(pa.array(kept))


def _outfits(file: TableFile, settings: CatalogSettings, known: Any) -> pa.Table:
    _refuse_no_rows(file)
    ids = read_ids(file, "outfit_id")
    lists = read_item_lists(file)
    available = read_available(file)
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    flat = pc.list_flatten(lists)
    rows = np.repeat(np.arange(sizes.size), sizes)
    most = settings.max_items_per_outfit
    file.refuse(sizes == 0, "item_ids", lambda row: "an outfit needs at least one item")
    refuse_items(file, rows, pc.equal(flat, ""), lambda row: "empty item id between separators")
    file.refuse(
        sizes > most,
        "item_ids",
        lambda row: (
            f"{sizes[row]} items where at most {most} are allowed (catalog.max_items_per_outfit)"
        ),
    )
    codes = np.asarray(pc.fill_null(pc.index_in(flat, value_set=known), -1).to_numpy())

    def unknown(row: int) -> str:
        names = [
            name for name in lists[row].as_py() if not pc.is_in(pa.scalar(name), known).as_py()
        ]
        return f"unknown item {show(names[0])}; add it to items, or import the items first"

    refuse_items(file, rows, codes < 0, unknown)
    order = np.lexsort((codes, rows))
    twice = np.zeros(rows.size, dtype=np.bool_)
    twice[1:] = (np.diff(rows[order]) == 0) & (np.diff(codes[order]) == 0)

    def repeated(row: int) -> str:
        names = lists[row].as_py()
        return f"item {show(next(n for n in names if names.count(n) > 1))} is there twice"

    refuse_items(file, rows[order], twice, repeated)
    # The order of items has no meaning, so two orders are the same content.
    sums = np.zeros(sizes.size, dtype=np.uint64)
    np.add.at(sums, rows, mix(codes.astype(np.uint64)))
    kept = _distinct(file, "outfit_id", ids, [sums, available])
    table = pa.table([ids, lists, available], schema=OUTFITS_SCHEMA)
    return table.filter(pa.array(kept))


def _interactions(file: TableFile, known: Any) -> pa.Table:
    _refuse_no_rows(file)
    users = read_ids(file, "user_id")
    outfits = read_ids(file, "outfit_id")
    at = read_times(file)
    codes = pc.index_in(outfits, value_set=known)
    file.refuse(
        pc.is_null(codes),
        "outfit_id",
        lambda row: (
            f"unknown outfit {show(outfits[row].as_py())}; add it to outfits, or import it first"
        ),
    )
    part = pa.chunked_array([pa.nulls(file.n_rows, pa.string())])
    table = pa.table([users, outfits, at, part], schema=INTERACTIONS_SCHEMA)
    pairs = _codes(users) * np.int64(len(known)) + codes.to_numpy()
    ordered = np.sort(pairs)
    if not (ordered[1:] == ordered[:-1]).any():
        return table
    # use_threads=False keeps the order of first appearance, so that the result is always the same.
    merged = table.group_by(["user_id", "outfit_id"], use_threads=False).aggregate(
        [("at", "min"), ("part", "first")]
    )
    return merged.rename_columns(["user_id", "outfit_id", "at", "part"]).cast(INTERACTIONS_SCHEMA)


def _users(file: TableFile) -> pa.Table:
    return pa.table([pc.unique(read_ids(file, "user_id"))], schema=USERS_SCHEMA)


def _refuse_no_rows(file: TableFile) -> None:
    if not file.n_rows:
        raise DataError(f"{file.path}: has no rows; add some, or leave the file out")


def _refuse_outside(file: TableFile, image: pa.ChunkedArray, folder: Path) -> None:
    """Refuse pictures outside the folder, also those that a symbolic link leads to."""

    def problem(row: int) -> str:
        return f"{show(image[row].as_py())} leads out of the folder; pictures must lie inside it"

    file.refuse(pc.match_substring_regex(image, _OUTSIDE), "image", problem)
    root = os.path.realpath(folder)
    outside = []
    # One look per folder, not per picture: a link is a folder on the way or an entry in it.
    parents = pc.unique(pc.replace_substring_regex(image, r"[^/]*$", "")).to_pylist()
    for parent in parents:
        path = os.path.join(root, parent)  # noqa: PTH118
        try:
            entries = [entry.name for entry in os.scandir(path) if entry.is_symlink()]
        except OSError:
            continue  # no such folder: its pictures are missing, and reported as that
        if not _inside(path, root):
            file.refuse(pc.starts_with(image, parent), "image", problem)
        outside += [parent + name for name in entries if not _inside(path + name, root)]
    if outside:
        file.refuse(pc.is_in(image, pa.array(outside)), "image", problem)


def _inside(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return real == root or real.startswith(root + os.sep)


def _distinct(
    file: TableFile, column: str, ids: pa.ChunkedArray, content: list[pa.ChunkedArray | UInt64Array]
) -> BoolArray:
    """(n_rows,) True for the first row of each id.

    Raises DataError where a later row has the same id and other content.
    """
    codes = _codes(ids)
    first, inverse = np.unique(codes, return_index=True, return_inverse=True)[1:]
    before = first[inverse]
    other = np.zeros(file.n_rows, dtype=np.bool_)
    for values in content:
        numbers = values if isinstance(values, np.ndarray) else _codes(values)
        other |= numbers != numbers[before]
    file.refuse(
        other,
        column,
        lambda row: (
            f"{show(ids[row].as_py())} is there with other content before "
            f"({file.place(int(before[row]))}); keep one of them"
        ),
    )
    return np.asarray(before == np.arange(file.n_rows))


def _codes(values: pa.ChunkedArray) -> Int64Array:
    """(n,) a number per value, equal where the values are."""
    codes = pc.index_in(values, value_set=pc.unique(values))
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def _union(ids: pa.ChunkedArray, known: Collection[str]) -> pa.Array:
    both = [*ids.chunks, pa.array(list(known), pa.string())]
    return pc.unique(pa.chunked_array(both, pa.string()))


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
