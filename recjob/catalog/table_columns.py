"""The columns of an import: each checked and made one type, from CSV text or Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import Int64Array
from recjob.catalog.table_files import TableFile, is_text, show, to_numpy
from recjob.errors import DataError

ITEM_SEPARATOR = "|"
"""Joins the item ids of an outfit in a text column."""
UTC = pa.timestamp("us", tz="UTC")

_TRUE = pa.array(["true", "t", "yes", "y", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "0"])
_OUTSIDE = r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)"
_CONTROL = r"\p{Cc}"
# Tabs and line ends may be in a description; JSON and Postgres take no other control character.
_CONTROL_IN_TEXT = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_HAS_ZONE = r":[0-9:.]*([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$"


def read_ids(file: TableFile, column: str) -> pa.ChunkedArray:
    """A column of text without control characters in which no row is empty."""
    values = read_text(file, column)
    file.refuse(pc.equal(values, ""), column, lambda row: "is empty; every row needs a value")
    return values


def read_text(file: TableFile, column: str) -> pa.ChunkedArray:
    """A column of text without control characters."""
    values = file.text(column)
    _refuse_control(file, column, values, _CONTROL)
    return values


def _refuse_control(file: TableFile, column: str, values: Any, pattern: str) -> None:
    file.refuse(
        pc.match_substring_regex(values, pattern),
        column,
        lambda row: f"{show(values[row].as_py())} holds a control character; take it out",
    )


def refuse_items(
    file: TableFile, rows: Int64Array, bad: Any, problem: Callable[[int], str]
) -> None:
    """Refuse an outfit by a flag per item; `rows` (n,) is the outfit of each item."""
    flagged = np.zeros(file.n_rows, dtype=np.bool_)
    flagged[rows[to_numpy(bad)]] = True
    file.refuse(flagged, "item_ids", problem)


def read_available(file: TableFile) -> pa.ChunkedArray:
    """The column `available` as booleans; True where the table has none."""
    if "available" not in file.table.column_names:
        return pa.chunked_array([pa.repeat(pa.scalar(True), file.n_rows)], pa.bool_())
    values = file.table["available"]
    if pa.types.is_boolean(values.type) and values.null_count == 0:
        return values
    text = values.cast(pa.string()) if pa.types.is_boolean(values.type) else file.text("available")
    lower = pc.utf8_lower(pc.fill_null(text, ""))
    yes = pc.is_in(lower, _TRUE)
    file.refuse(
        pc.invert(pc.or_(yes, pc.is_in(lower, _FALSE))),
        "available",
        lambda row: f"{show(text[row].as_py())} is neither true nor false",
    )
    return yes


def read_words(
    file: TableFile, column: str, words: tuple[str, ...], default: str | None
) -> pa.ChunkedArray:
    """An optional column of text with one of `words` per row; `default` where there is none."""
    if column not in file.table.column_names:
        return pa.chunked_array([pa.repeat(pa.scalar(default, pa.string()), file.n_rows)])
    values = file.text(column)
    values = pc.if_else(pc.equal(values, ""), pa.scalar(default, pa.string()), values)
    file.refuse(
        pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(words)))),
        column,
        lambda row: f"{show(values[row].as_py())} is none of {', '.join(words)}",
    )
    return values


def read_attributes(file: TableFile) -> pa.ChunkedArray:
    """JSON object text per row of every column that has no meaning of its own; "" is left out."""
    pieces = []
    own = {"item_id", "category", "image", "available"}
    for column in sorted(set(file.table.column_names) - own):
        kind = file.table.schema.field(column).type
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            values = pc.fill_null(file.table[column].cast(pa.string()), "")
        else:
            values = file.text(column)
        _refuse_control(file, column, values, _CONTROL_IN_TEXT)
        escaped = values
        for raw, written in (("\\", "\\\\"), ('"', '\\"'), ("\t", "\\t"), ("\n", "\\n")):
            escaped = pc.replace_substring(escaped, raw, written)
        escaped = pc.replace_substring(escaped, "\r", "\\r")
        name = json.dumps(column, ensure_ascii=False)
        whole = pc.binary_join_element_wise(f'{name}: "', escaped, '", ', "")
        pieces.append(pc.if_else(pc.equal(values, ""), "", whole))
    if not pieces:
        return pa.chunked_array([pa.repeat(pa.scalar("{}"), file.n_rows)], pa.string())
    inside = pc.binary_join_element_wise(*pieces, "")
    inside = pc.replace_substring_regex(inside, ", $", "")
    return pc.binary_join_element_wise("{", inside, "}", "")


def read_item_lists(file: TableFile) -> pa.ChunkedArray:
    """The column `item_ids` as lists of text, from a list or from text joined by "|"."""
    values = file.table["item_ids"]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        inner = values.type.value_type
        if not (is_text(inner) or pa.types.is_integer(inner)):
            raise DataError(f"{file.path}, column item_ids: is a list of {inner}; make it text")
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise DataError(f"{file.path}, column item_ids: not UTF-8 text") from None
        lists = values.cast(pa.list_(pa.string()))
        missing = pc.is_null(pc.list_flatten(lists))
        if pc.any(missing).as_py():
            sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
            rows = np.repeat(np.arange(sizes.size), sizes)
            refuse_items(file, rows, missing, lambda row: "empty item id in the list")
        return lists
    text = read_text(file, "item_ids")
    file.refuse(pc.equal(text, ""), "item_ids", lambda row: "an outfit needs at least one item")
    return pc.split_pattern(text, ITEM_SEPARATOR)


def read_times(file: TableFile) -> pa.ChunkedArray:
    """The column `at` in UTC; a time without a zone is UTC, an empty one is null."""
    if "at" not in file.table.column_names:
        empty = pa.scalar(None, UTC)
        return pa.chunked_array([pa.repeat(empty, file.n_rows)])
    values = file.table["at"]
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        plain = values if pa.types.is_timestamp(values.type) else values.cast(pa.timestamp("us"))
        return plain.cast(pa.timestamp("us", tz=plain.type.tz), safe=False).cast(UTC)
    text = file.text("at")
    nothing = pa.scalar(None, pa.string())
    zoned = pc.match_substring_regex(text, _HAS_ZONE)
    with_zone = pc.if_else(zoned, text, nothing)
    without = pc.if_else(pc.or_(zoned, pc.equal(text, "")), nothing, text)
    parts = []
    for part, kind in ((with_zone, UTC), (without, pa.timestamp("us"))):
        try:
            parts.append(part.cast(kind).cast(UTC))
        except pa.ArrowInvalid:
            bad = np.zeros(file.n_rows, dtype=np.bool_)
            bad[_first_that_fails(part, kind)] = True
            file.refuse(
                bad,
                "at",
                lambda row: (
                    f"{show(text[row].as_py())} is not a time; write it as 2026-01-31T18:30:00Z"
                ),
            )
    return pc.coalesce(*parts)


def _first_that_fails(text: pa.ChunkedArray, kind: Any) -> int:
    start, length = 0, len(text)
    while length > 1:
        half = length // 2
        try:
            text.slice(start, half).cast(kind)
        except pa.ArrowInvalid:
            length = half
        else:
            start, length = start + half, length - half
    return start


def refuse_outside(file: TableFile, image: pa.ChunkedArray, folder: Path) -> None:
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
