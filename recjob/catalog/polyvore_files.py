"""The files of one set of Polyvore-U, each read and checked: lists of pictures, and tuples.

Two forms of tuples are in circulation: the released one, CSV with the header `user,top,bottom,shoe`
or `user,top,top,bottom,shoe` (-1: no second top); and a later one without a header, `user, size,
items x max, types x max`, padded with -1. The .npy files of some mirrors are never opened: they
hold pickled objects, and a pickle runs code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from recjob.catalog.catalog import PADDING, BoolArray, Int32Array, Int64Array
from recjob.catalog.table_files import show
from recjob.errors import DataError, one_line

CATEGORIES: Final = ("top", "bottom", "shoe")
"""Types 0, 1 and 2 of the later form; each has its file `image_list_<category>`."""
FIXED_HEADER: Final = ("user", "top", "bottom", "shoe")
VARIABLE_HEADER: Final = ("user", "top", "top", "bottom", "shoe")
PICTURE_NAME: Final = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]*\.jpg")
"""40 hexadecimal digits and .jpg in the released data; no folder, nothing that a table divides."""

# pandas, reading a header with `top` twice and writing it again, calls the second one so.
_PANDAS_SECOND_TOP: Final = "top.1"
_TYPES_OF_HEADER: Final = {FIXED_HEADER: (0, 1, 2), VARIABLE_HEADER: (0, 0, 1, 2)}
_SECOND_TOP: Final = 1
_INTEGER: Final = re.compile(r"\s*-?[0-9]{1,18}\s*")
_FIRST_ITEM: Final = 2
"""Column of the later form at which the items begin, after user and size."""
_FEWEST_ITEMS: Final = 3
"""Slots of the later form: 3 in the fixed sets, 4 in the variable ones."""


@dataclass(frozen=True)
class Tuples:
    """The outfits of one file."""

    path: Path
    users: Int64Array
    """(n,) index of the user."""
    items: Int32Array
    """(n, max_items) index within the category, -1 where there is none."""
    types: Int32Array
    """(n, max_items) index into `CATEGORIES`, -1 where there is no item."""

    def __len__(self) -> int:
        return len(self.users)

    def place(self, row: int) -> str:
        """File and line of a row."""
        return _place(self.path, row)


@dataclass(frozen=True)
class _Cells:
    """The integers of a file, and what its columns are called in messages."""

    path: Path
    values: Int64Array
    """(n, n_columns)"""
    names: tuple[str, ...]

    def refuse(self, bad: BoolArray, column: int, problem: Callable[[int], str]) -> None:
        """Raise DataError for the first row where `bad` (n,) holds."""
        rows = np.flatnonzero(bad)
        if rows.size:
            row = int(rows[0])
            more = f" ({rows.size} such rows)" if rows.size > 1 else ""
            raise DataError(
                f"{_place(self.path, row)}, column {column + 1} ({self.names[column]}): "
                f"{problem(row)}{more}"
            )


def read_image_list(path: Path) -> list[str]:
    """The picture names of a category, in the order of its indices.

    Raises DataError where a line is empty or is no plain name that ends in .jpg.
    """
    names = _text(path).rstrip().splitlines()
    if not names:
        raise DataError(f"{path}: is empty; it names the pictures of its category, one per line")
    for number, name in enumerate(names, start=1):
        if not PICTURE_NAME.fullmatch(name):
            problem = (
                "is empty; every line must name a picture, as lines are counted"
                if not name.strip()
                else f"{show(name)} is no plain name that ends in .jpg"
            )
            raise DataError(f"{path}, line {number}, column 1 (name): {problem}")
    return names


def read_tuples(path: Path, n_users: int, n_pictures: tuple[int, int, int]) -> Tuples:
    """The outfits of a file in either form, checked.

    `n_pictures` is the length of the image list of each category.

    Raises DataError with file, line and column of the first mistake.
    """
    header = _first_line(path).split(",")
    by_index = bool(_INTEGER.fullmatch(header[0]))
    cells = _later_cells(path, len(header)) if by_index else _released_cells(path, header)
    user = cells.values[:, 0]
    cells.refuse(
        (user < 0) | (user >= n_users),
        0,
        lambda row: f"user {user[row]} is not among 0 to {n_users - 1}",
    )
    items, types, first = _later_outfits(cells) if by_index else _released_outfits(cells)
    for place in range(items.shape[1]):
        item, kind = items[:, place], types[:, place]
        most = np.array([*n_pictures, 0])[kind]
        cells.refuse(
            (kind != PADDING) & ((item < 0) | (item >= most)),
            first + place,
            lambda row, item=item, kind=kind, most=most: (  # type: ignore[misc]
                f"{item[row]} is out of range: image_list_{CATEGORIES[kind[row]]} has "
                f"{most[row]} names, counted from 0"
            ),
        )
    return Tuples(path, user, items.astype(np.int32), types.astype(np.int32))


def _released_cells(path: Path, header: list[str]) -> _Cells:
    names = tuple("top" if name.strip() == _PANDAS_SECOND_TOP else name.strip() for name in header)
    if names not in _TYPES_OF_HEADER:
        raise DataError(
            f"{path}, line 1, column {_first_wrong(names)}: the header is "
            f"{show(','.join(header))}, and must be {','.join(FIXED_HEADER)} or "
            f"{','.join(VARIABLE_HEADER)}"
        )
    return _Cells(path, _integers(path, len(names), skipped=1), names)


def _first_wrong(names: tuple[str, ...]) -> int:
    right = VARIABLE_HEADER if names[2:3] == ("top",) else FIXED_HEADER
    same = [name == other for name, other in zip(names, right, strict=False)]
    return [*same, False].index(False) + 1


def _released_outfits(cells: _Cells) -> tuple[Int64Array, Int64Array, int]:
    """Items and types (n, max_items), and the column of the first item."""
    items = cells.values[:, 1:]
    types = np.tile(np.array(_TYPES_OF_HEADER[cells.names], np.int64), (len(items), 1))
    if cells.names == VARIABLE_HEADER:
        types[items[:, _SECOND_TOP] == PADDING, _SECOND_TOP] = PADDING
    return items, types, 1


def _later_cells(path: Path, n_columns: int) -> _Cells:
    slots, odd = divmod(n_columns - _FIRST_ITEM, 2)
    if odd or slots < _FEWEST_ITEMS:
        raise DataError(
            f"{path}, line 1, column {n_columns}: a row without a header is user, size, items and "
            f"as many types, so 8 columns or 10, not {n_columns}; or write the header "
            f"{','.join(FIXED_HEADER)} above the rows"
        )
    numbers = range(1, slots + 1)
    names = ("user", "size", *(f"item {n}" for n in numbers), *(f"type {n}" for n in numbers))
    return _Cells(path, _integers(path, n_columns, skipped=0), names)


def _later_outfits(cells: _Cells) -> tuple[Int64Array, Int64Array, int]:
    """Items and types (n, max_items), and the column of the first item."""
    slots = (cells.values.shape[1] - _FIRST_ITEM) // 2
    size = cells.values[:, 1]
    cells.refuse(
        (size < 1) | (size > slots),
        1,
        lambda row: f"size {size[row]} is not among 1 to {slots}",
    )
    items, types = np.split(cells.values[:, _FIRST_ITEM:], 2, axis=1)
    for place in range(slots):
        there = place < size
        kind = types[:, place]
        column = _FIRST_ITEM + place
        cells.refuse(
            ~there & (items[:, place] != PADDING),
            column,
            lambda row: f"must be -1 behind the {size[row]} items that size tells of",
        )
        cells.refuse(
            there & ((kind < 0) | (kind >= len(CATEGORIES))),
            column + slots,
            lambda row, kind=kind: (  # type: ignore[misc]
                f"type {kind[row]} is none of 0 (top), 1 (bottom), 2 (shoe)"
            ),
        )
        cells.refuse(
            ~there & (kind != PADDING),
            column + slots,
            lambda row: f"must be -1 behind the {size[row]} items that size tells of",
        )
    return items, types, _FIRST_ITEM


def _integers(path: Path, n_columns: int, skipped: int) -> Int64Array:
    """(n, n_columns) the cells below the first `skipped` lines."""
    names = [str(column) for column in range(n_columns)]
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skipped),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.int64()), null_values=[]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        if "Empty CSV file" in str(error):
            raise DataError(f"{path}: has no rows") from None
        _refuse_first_bad_cell(path, n_columns, skipped)
        raise DataError(f"{path}: not a readable file of tuples ({one_line(error)})") from None
    if not table.num_rows:
        raise DataError(f"{path}: has no rows")
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def _refuse_first_bad_cell(path: Path, n_columns: int, skipped: int) -> None:
    for line, text in _lines(path):
        if line <= skipped:
            continue
        cells = text.split(",")
        if len(cells) != n_columns:
            raise DataError(
                f"{path}, line {line}, column {min(len(cells), n_columns) + 1}: the line has "
                f"{len(cells)} columns where {n_columns} are due"
            )
        for column, cell in enumerate(cells, start=1):
            if not _INTEGER.fullmatch(cell):
                raise DataError(f"{path}, line {line}, column {column}: {show(cell)} is no integer")


def _place(path: Path, row: int) -> str:
    """File and line of a row of a file of tuples, found by reading it again."""
    header = not _INTEGER.fullmatch(_first_line(path).split(",")[0])
    for number, (line, _) in enumerate(_lines(path)):
        if number == row + header:
            return f"{path}, line {line}"
    return str(path)


def _first_line(path: Path) -> str:
    for _, text in _lines(path):
        return text
    raise DataError(f"{path}: is empty")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text.rstrip("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the layout is in docs/data.md") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}, column 1 (name): not UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
