"""The import format: a folder with items, outfits, interactions, users, negatives, as CSV or
Parquet each.

`read_folder` checks everything before anything is imported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import (
    ANY_VALIDATION,
    BoolArray,
    Int64Array,
)
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
    read_words,
    refuse_items,
    refuse_outside,
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

PART_CODES: Final = {
    "train": 0,
    "validation": ANY_VALIDATION,
    "validation-teacher": 1,
    "validation-student": 2,
    "test": 3,
}
"""Words of the column `part`, and what they are in `Catalog.positive_part`; "validation" is halved
between teacher and student by the split."""
PARTS: Final = tuple(PART_CODES)
NEGATIVE_KINDS = ("random", "hard")
"""Words of the column `kind` of negatives; hard ones are liked by other users."""


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
    pair = ("user_id", "outfit_id")
    interactions_file = read_table_file(folder, "interactions", pair, ("at", "part"))
    users_file = read_table_file(folder, "users", ("user_id",), ())
    negatives_file = read_table_file(folder, "negatives", (*pair, "item_ids"), ("kind",))
    if not (items_file or outfits_file or interactions_file or users_file):
        raise DataError(
            f"{folder}: holds no items, outfits, interactions or users as .csv or .parquet"
        )
    items = _items(items_file, folder, settings) if items_file else ITEMS_SCHEMA.empty_table()
    outfits = OUTFITS_SCHEMA.empty_table()
    all_items = _union(items["item_id"], known_items)
    if outfits_file:
        outfits = _outfits(outfits_file, settings, all_items)
    interactions = INTERACTIONS_SCHEMA.empty_table()
    if interactions_file:
        interactions = _interactions(interactions_file, _union(outfits["outfit_id"], known_outfits))
    users = _users(users_file) if users_file else USERS_SCHEMA.empty_table()
    negatives = NEGATIVES_SCHEMA.empty_table()
    if negatives_file:
        negatives = _negatives(negatives_file, settings, all_items, interactions)
    return FolderTables(
        folder, items, outfits, interactions, users, negatives, FolderPictures(folder)
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
    refuse_outside(file, image, folder)
    available = read_available(file)
    attributes = read_attributes(file)
    kept = _distinct(file, "item_id", ids, [category, image, available, attributes])
    table = pa.table([ids, category, image, available, attributes], schema=ITEMS_SCHEMA)
    return table.filter(pa.array(kept))


def _outfits(file: TableFile, settings: CatalogSettings, known: Any) -> pa.Table:
    _refuse_no_rows(file)
    ids = read_ids(file, "outfit_id")
    lists, rows, codes = _item_lists(file, settings, known)
    available = read_available(file)
    # The order of items has no meaning, so two orders are the same content.
    sums = np.zeros(file.n_rows, dtype=np.uint64)
    np.add.at(sums, rows, mix(codes.astype(np.uint64)))
    kept = _distinct(file, "outfit_id", ids, [sums, available])
    table = pa.table([ids, lists, available], schema=OUTFITS_SCHEMA)
    return table.filter(pa.array(kept))


def _item_lists(
    file: TableFile, settings: CatalogSettings, known: Any
) -> tuple[pa.ChunkedArray, Int64Array, Int64Array]:
    """The checked column `item_ids`, and of each item its row and its index in `known`."""
    lists = read_item_lists(file)
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
    return lists, rows, codes


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
    part = read_words(file, "part", PARTS, None)
    table = pa.table([users, outfits, at, part], schema=INTERACTIONS_SCHEMA)
    pairs = _codes(users) * np.int64(len(known)) + codes.to_numpy()
    ordered = np.sort(pairs)
    if not (ordered[1:] == ordered[:-1]).any():
        return table
    _refuse_two_parts(file, pairs, part)
    # use_threads=False keeps the order of first appearance, so that the result is always the same.
    merged = table.group_by(["user_id", "outfit_id"], use_threads=False).aggregate(
        [("at", "min"), ("part", "first")]
    )
    return merged.rename_columns(["user_id", "outfit_id", "at", "part"]).cast(INTERACTIONS_SCHEMA)


def _refuse_two_parts(file: TableFile, pairs: Int64Array, part: pa.ChunkedArray) -> None:
    """Refuse a user and outfit that are there twice, in different parts."""
    named = np.flatnonzero(to_numpy(pc.is_valid(part)))
    first, inverse = np.unique(pairs[named], return_index=True, return_inverse=True)[1:]
    before = named[first][inverse]
    codes = _codes(part)
    other = np.zeros(file.n_rows, dtype=np.bool_)
    other[named] = codes[named] != codes[before]
    place = dict(zip(named.tolist(), before.tolist(), strict=True)) if other.any() else {}
    file.refuse(
        other,
        "part",
        lambda row: (
            f"{show(part[row].as_py())}, but the same user and outfit are in "
            f"{show(part[place[row]].as_py())} before ({file.place(place[row])}); keep one of them"
        ),
    )


def _negatives(
    file: TableFile, settings: CatalogSettings, known: Any, interactions: pa.Table
) -> pa.Table:
    _refuse_no_rows(file)
    users = read_ids(file, "user_id")
    outfits = read_ids(file, "outfit_id")
    lists, _, _ = _item_lists(file, settings, known)
    kind = read_words(file, "kind", NEGATIVE_KINDS, NEGATIVE_KINDS[0])
    all_users, all_outfits = (pc.unique(interactions[name]) for name in ("user_id", "outfit_id"))

    def pairs(of_users: pa.ChunkedArray, of_outfits: pa.ChunkedArray) -> Int64Array:
        user, outfit = (
            pc.fill_null(pc.index_in(values, value_set=ids), -1).to_numpy().astype(np.int64)
            for values, ids in ((of_users, all_users), (of_outfits, all_outfits))
        )
        return np.where((user < 0) | (outfit < 0), -1, user * len(all_outfits) + outfit)

    liked = pairs(interactions["user_id"], interactions["outfit_id"])
    file.refuse(
        ~np.isin(pairs(users, outfits), liked),
        "outfit_id",
        lambda row: (
            f"user {show(users[row].as_py())} has no interaction with outfit "
            f"{show(outfits[row].as_py())} in this folder; negatives belong to positives"
        ),
    )
    return pa.table([users, outfits, lists, kind], schema=NEGATIVES_SCHEMA)


def _users(file: TableFile) -> pa.Table:
    return pa.table([pc.unique(read_ids(file, "user_id"))], schema=USERS_SCHEMA)


def _refuse_no_rows(file: TableFile) -> None:
    if not file.n_rows:
        raise DataError(f"{file.path}: has no rows; add some, or leave the file out")


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
