"""Write tables as a folder of the import format: what `tables.read_folder` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from recjob.catalog.table_columns import ITEM_SEPARATOR
from recjob.catalog.table_files import show
from recjob.catalog.tables import FolderTables
from recjob.errors import DataError

Form = Literal["csv", "parquet"]


def write_tables(tables: FolderTables, folder: Path, form: Form) -> None:
    """Write every table that has rows into `folder`; the pictures are not copied.

    Raises DataError where CSV cannot hold an id: one with "|", which joins the items of an outfit.
    """
    written = {
        "items": _with_attribute_columns(tables.items),
        "outfits": tables.outfits,
        "interactions": _without_empty(tables.interactions, ("at", "part")),
        "users": tables.users,
        "negatives": tables.negatives,
    }
    for name, table in written.items():
        if table.num_rows:
            path = folder / f"{name}.{form}"
            if form == "parquet":
                pyarrow.parquet.write_table(table, path)
            else:
                pyarrow.csv.write_csv(_as_text(table), path)


def _without_empty(table: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """Without those of the optional `columns` that say nothing."""
    empty = [name for name in columns if table[name].null_count == table.num_rows]
    return table.drop_columns(empty) if empty else table


def _with_attribute_columns(items: pa.Table) -> pa.Table:
    """The attributes as columns of their own; "" where an item lacks one."""
    # Most catalogs have few attributes or none: each different text is read once.
    unique = pc.unique(items["attributes"])
    parsed = [json.loads(text) for text in unique.to_pylist()]
    codes = pc.index_in(items["attributes"], value_set=unique)
    table = items.drop_columns(["attributes"])
    for name in sorted({name for attributes in parsed for name in attributes}):
        values = pa.array([attributes.get(name, "") for attributes in parsed], pa.string())
        table = table.append_column(name, values.take(codes.combine_chunks()))
    return table


def _as_text(table: pa.Table) -> pa.Table:
    """Columns as CSV takes them: lists joined, times as text, nulls empty."""
    for place, field in enumerate(table.schema):
        column = table[field.name]
        if pa.types.is_list(field.type):
            column = _joined(column)
        elif pa.types.is_timestamp(field.type):
            column = column.cast(pa.string())
        elif not pa.types.is_string(field.type):
            continue
        table = table.set_column(place, field.name, pc.fill_null(column, ""))
    return table


def _joined(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    flat = pc.list_flatten(lists)
    divided = pc.match_substring(flat, ITEM_SEPARATOR)
    if pc.any(divided).as_py():
        first = flat.filter(divided)[0].as_py()
        raise DataError(
            f"item {show(first)}: CSV joins the items of an outfit by {ITEM_SEPARATOR!r}, which "
            "the id contains; write Parquet"
        )
    return pc.binary_join(lists, ITEM_SEPARATOR)
