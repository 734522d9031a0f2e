"""Files between a teacher that judges outfits and somebody who knows what users truly like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Float32Array, Int32Array
from recjob.catalog.table_columns import ITEM_SEPARATOR, read_ids, read_item_lists, refuse_items
from recjob.catalog.table_files import TableFile, read_table_file, show, to_numpy
from recjob.errors import DataError, NotFoundError, UserError

SUFFIXES: Final = (".csv", ".parquet")
JUDGED_COLUMNS: Final = ("user_id", "item_ids", "teacher_score", "d")
_WORDS: Final = pa.array(["true", "1", "false", "0"])


@dataclass(frozen=True)
class KnownTruth:
    """Outfits of which somebody knows whether their users truly like them."""

    users: Int32Array
    """(n,) catalog users."""
    items: Int32Array
    """(n, max_items) item indices, padded."""
    liked: BoolArray
    """(n,)"""


def write_judged(
    path: Path,
    catalog: Catalog,
    users: Int32Array,
    items: Int32Array,
    scores: Float32Array,
    d: Float32Array,
) -> None:
    """Write outfits `items (n, M)` of `users (n,)` with the teacher's scores and d as CSV.

    Raises UserError where the file cannot be written.
    """
    real = items != PADDING
    ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int32)
    names = pa.array(catalog.item_ids, pa.string()).take(pa.array(items[real]))
    lists = pa.ListArray.from_arrays(pa.array(ends), names)
    columns = [
        pa.array(catalog.user_ids, pa.string()).take(pa.array(users)),
        pc.binary_join(lists, ITEM_SEPARATOR),
        pa.array(scores),
        pa.array(d),
    ]
    try:
        pyarrow.csv.write_csv(pa.table(columns, names=list(JUDGED_COLUMNS)), path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); name another file") from None


def read_truth(path: Path, catalog: Catalog) -> KnownTruth:
    """Read `user_id`, `item_ids` (joined by "|") and `liked` (true, false) or `utility` (a number).

    An outfit with a utility is liked where that is above 0: the true utility less the one from
    which its user posts. The columns of `write_judged` may be there, too.

    Raises NotFoundError where there is no such file, DataError for a row that cannot be used.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: the truth is read from a .csv or a .parquet file")
    optional = ("liked", "utility", *JUDGED_COLUMNS)
    file = None
    if path.exists():
        file = read_table_file(path.parent, path.stem, ("user_id", "item_ids"), optional)
    if file is None:
        raise NotFoundError(f"{path}: no such file")
    user_ids = read_ids(file, "user_id")
    users = pc.index_in(user_ids, value_set=pa.array(catalog.user_ids, pa.string()))
    file.refuse(
        pc.is_null(users),
        "user_id",
        lambda row: f"unknown user {show(user_ids[row].as_py())}; import the users first",
    )
    return KnownTruth(
        users=users.to_numpy().astype(np.int32), items=_items(file, catalog), liked=_liked(file)
    )


def _items(file: TableFile, catalog: Catalog) -> Int32Array:
    """(n, M) item indices, padded."""
    lists = read_item_lists(file)
    names = pc.list_flatten(lists)
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    file.refuse(sizes == 0, "item_ids", lambda row: "an outfit needs at least one item")
    rows = np.repeat(np.arange(sizes.size), sizes)
    places = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = pc.index_in(names, value_set=pa.array(catalog.item_ids, pa.string()))
    indices = np.asarray(pc.fill_null(found, PADDING).to_numpy(), np.int32)
    refuse_items(
        file,
        rows,
        (indices == PADDING) | ~catalog.item_usable[indices],
        lambda row: f"{show(lists[row].as_py())} has an item that is unknown or in quarantine",
    )
    items = np.full((sizes.size, max(catalog.max_items, int(sizes.max(initial=1)))), PADDING)
    items[rows, places] = indices
    return items.astype(np.int32)


def _liked(file: TableFile) -> BoolArray:
    """(n,) from `liked`, or from `utility`."""
    columns = [name for name in ("liked", "utility") if name in file.table.column_names]
    if len(columns) != 1:
        raise DataError(
            f"{file.path}: a column liked (true or false) or utility (above 0: liked) is needed, "
            "one of the two"
        )
    if columns == ["liked"]:
        values = pc.utf8_lower(pc.fill_null(file.table["liked"].cast(pa.string()), ""))
        file.refuse(
            pc.invert(pc.is_in(values, _WORDS)),
            "liked",
            lambda row: f"{show(values[row].as_py())} is neither true nor false",
        )
        return to_numpy(pc.is_in(values, _WORDS[:2]))
    text = file.table["utility"].cast(pa.string())
    number = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    file.refuse(
        pc.invert(pc.fill_null(number, False)),
        "utility",
        lambda row: f"{show(text[row].as_py())} is no number",
    )
    return to_numpy(pc.greater(text.cast(pa.float64()), 0))
