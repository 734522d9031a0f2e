"""Tables as files, CSV or Parquet: read column-wise, and every bad row named by file and line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from recjob.catalog.catalog import BoolArray
from recjob.errors import DataError, one_line

# A CSV row must fit into one block; longer ones are a lost quote.
_BLOCK_BYTES = 16 * 2**20
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class TableFile:
    """One table of a folder, and where its rows are."""

    path: Path
    table: pa.Table

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def place(self, row: int) -> str:
        """File and line (CSV; the header is line 1) or row (Parquet, from 1) of a row (from 0)."""
        if self.path.suffix == ".parquet":
            return f"{self.path}, row {row + 1}"
        for number, (line, _) in enumerate(_csv_rows(self.path)):
            if number == row + 1:
                return f"{self.path}, line {line}"
        return str(self.path)

    def refuse(self, bad: Any, column: str, problem: Callable[[int], str]) -> None:
        """Raise DataError for the first row where `bad` (n_rows,) holds; `problem` tells of it."""
        rows = np.flatnonzero(to_numpy(bad))
        if rows.size:
            row = int(rows[0])
            more = f" ({rows.size} such rows)" if rows.size > 1 else ""
            raise DataError(f"{self.place(row)}, column {column}: {problem(row)}{more}")

    def text(self, column: str) -> pa.ChunkedArray:
        """The column as strings; a null is "". Raises DataError for a column of another type."""
        values = self.table[column]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise DataError(f"{self.path}, column {column}: is {kind}; make it text")
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise DataError(f"{self.path}, column {column}: not UTF-8 text") from None
        return pc.fill_null(values.cast(pa.string()), "")


def is_text(kind: Any) -> bool:
    """Whether an arrow type holds text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def to_numpy(values: Any) -> BoolArray:
    """A boolean arrow or numpy array as numpy; null is False."""
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def show(value: object) -> str:
    """A value for a message: quoted, escaped and not too long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def read_table_file(
    folder: Path, name: str, required: tuple[str, ...], optional: tuple[str, ...] | None
) -> TableFile | None:
    """The table `name` of a folder, or None where it is absent; columns of CSV are text.

    `optional` names the columns that may be there besides `required`; None: any.

    Raises DataError: both a .csv and a .parquet; an unreadable file; a missing, unknown or
    repeated column.
    """
    paths = [folder / f"{name}.csv", folder / f"{name}.parquet"]
    present = [path for path in paths if path.exists()]
    if len(present) == 2:
        raise DataError(f"{folder}: has both {name}.csv and {name}.parquet; keep one of them")
    if not present:
        return None
    path = present[0]
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    found = list(table.column_names)
    for column in found:
        if found.count(column) > 1:
            raise DataError(f"{path}: column {show(column)} is there twice; keep one of them")
        if not column.isprintable() or not column.strip():
            raise DataError(f"{path}: {show(column)} is no name for a column; rename it")
        if optional is not None and column not in required + optional:
            allowed = ", ".join(required + optional)
            raise DataError(f"{path}: unknown column {show(column)}; {name} has columns {allowed}")
    for column in required:
        if column not in found:
            raise DataError(
                f"{path}: column {column} is missing; the columns found are "
                f"{', '.join(show(other) for other in found)}"
            )
    return TableFile(path, table)


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        _ = table.column_names  # which are UTF-8, or not
        return table
    except UnicodeDecodeError:
        raise DataError(f"{path}: the name of a column is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({one_line(error)})") from None


def _read_csv(path: Path) -> pa.Table:
    header = next(_csv_rows(path), (1, []))[1]
    if not header:
        raise DataError(f"{path}: is empty; its first line must name the columns")
    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={column: pa.string() for column in header},
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        for line, row in _csv_rows(path):
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {line}: has {len(row)} columns where the header has "
                    f"{len(header)}; put values that contain a comma into quotes"
                ) from None
        raise DataError(f"{path}: not a readable CSV file ({one_line(error)})") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; slow, for the header and for messages."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            line = 1
            for row in rows:
                if row:
                    yield line, row
                line = rows.line_num + 1
    except UnicodeDecodeError:
        raise DataError(
            f"{path}, line {_first_line_not_utf8(path)}: not UTF-8; save the file as UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: not readable as CSV ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _first_line_not_utf8(path: Path) -> int:
    # Lines may end in \r alone or hold quoted newlines; \n counts them well enough for an editor.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
