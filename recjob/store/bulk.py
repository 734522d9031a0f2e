"""Bulk data in and out of Postgres: COPY, encoded and decoded column-wise.

In goes `COPY ... (FORMAT BINARY)`: rows of one width put together in blocks of bytes, with texts
or nulls by scattering the columns' bytes into one buffer. Out come fixed-width columns the same
way, and tables with texts as CSV through Arrow. No Python loop touches a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from psycopg import sql
from psycopg.abc import Buffer
from sqlalchemy import Connection

CHUNK_ROWS = 65_536
"""Rows encoded at a time: some 15 MB of recommendations, which fits the caches well enough."""
BLOCK_ROWS = 1024
"""Rows of fixed width put together at a time, in a core's cache."""
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = -1
EPOCH_MICROSECONDS = 946_684_800_000_000
"""Postgres counts from 2000-01-01, Unix from 1970."""

# Element type of an array column by numpy's: its oid in pg_type, fixed for ever.
_ELEMENT_OIDS = {"i2": 21, "i4": 23, "i8": 20, "f4": 700, "f8": 701, "b1": 16}

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Halfvec:
    """A column of pgvector's type halfvec: `vectors` (N, d), of any float type."""

    vectors: NDArray[np.floating[Any]]


Column: TypeAlias = NDArray[Any] | Halfvec | pa.Array | pa.ChunkedArray
"""What can be copied in:

(N,) bool, int16, int32, int64, float32, float64: boolean, smallint, integer, bigint, real, double
precision. (N, K) of these: an array per row. (N,) bytes, all of full width: text. `Halfvec`. An
Arrow array of strings (text; jsonb is not) or of timestamps (timestamptz), where null is NULL.
"""


def copy_in(
    connection: Connection, table: str, columns: Mapping[str, Column], *, freeze: bool = False
) -> int:
    """COPY `columns`, equally long, into `table`; the number of rows.

    `freeze`: only for a table made in this transaction, whose rows then never need a vacuum.
    """
    lengths = {len(c.vectors) if isinstance(c, Halfvec) else len(c) for c in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    copy_rows_in(connection, table, tuple(columns), encode(list(columns.values())), freeze=freeze)
    return lengths.pop()


def copy_rows_in(
    connection: Connection,
    table: str,
    names: Sequence[str],
    chunks: Iterable[Bytes],
    *,
    freeze: bool = False,
) -> None:
    """COPY rows that `encode` made of the columns `names`; rows of any widths in one stream.

    `freeze` as in `copy_in`. An error of `chunks` ends the COPY and leaves no row.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY{})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", FREEZE" if freeze else ""),
    )
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        for chunk in chunks:
            copy.write(chunk.data)
        copy.write(TRAILER)


def copy_table_in(connection: Connection, table: str, rows: pa.Table) -> int:
    """COPY an Arrow table into columns of the same names, as CSV: for texts, JSON, times."""
    if rows.num_rows == 0:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT CSV)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    # Quoting every value keeps "" apart from NULL, which is the bare nothing.
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for batch in rows.to_batches(max_chunksize=CHUNK_ROWS):
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(batch, sink, options)
            copy.write(memoryview(sink.getvalue()))
    return int(rows.num_rows)


def copy_out(
    connection: Connection,
    query: str,
    dtypes: Mapping[str, str],
    parameters: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Rows of fixed width that `query` selects, as a structured array in native byte order.

    `dtypes`: numpy type of each selected column ("i2", "i4", "i8", "f4", "f8", "b1"), or of a
    halfvec of d dimensions ("128f2"). `parameters`: of the query's %(name)s. It selects no NULL.
    """
    wire, native = [("n", ">i2")], []
    for name, kind in dtypes.items():
        wire.append((f"{name}.length", ">i4"))
        if kind.endswith("f2"):
            wire.append((f"{name}.dimensions", ">i4"))
            width = (int(kind.removesuffix("f2")),)
            wire.append((name, ">f2", width))  # type: ignore[arg-type]
            native.append((name, "<f2", width))
        else:
            wire.append((name, f">{kind}" if kind != "b1" else "?"))
            native.append((name, kind if kind != "b1" else "?"))  # type: ignore[arg-type]
    data = _read(connection, f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters)
    body = np.frombuffer(data, np.uint8)[len(HEADER) : -len(TRAILER)]
    rows = body.view(np.dtype(wire))
    result = np.empty(len(rows), np.dtype(native))
    for name in dtypes:
        result[name] = rows[name]
    return result


def copy_table_out(connection: Connection, query: str, schema: pa.Schema) -> pa.Table:
    """What `query` selects as an Arrow table: for texts. Parameters cannot be given."""
    data = _read(connection, f"COPY ({query}) TO STDOUT (FORMAT CSV, FORCE_QUOTE *)")
    if not data:
        return schema.empty_table()
    return pyarrow.csv.read_csv(
        pa.py_buffer(data),
        read_options=pyarrow.csv.ReadOptions(column_names=schema.names),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=schema,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
        ),
    )


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's connection below SQLAlchemy's, in the same transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def copy_blocks_out(
    connection: Connection, statement: str, parameters: Mapping[str, Any] | None = None
) -> Iterator[Buffer]:
    """What the server sends for a COPY TO STDOUT, as it comes: nothing is held in memory."""
    with (
        driver(connection).cursor() as cursor,
        cursor.copy(statement.encode(), parameters) as copy,
    ):
        yield from copy


def _read(
    connection: Connection, statement: str, parameters: Mapping[str, Any] | None = None
) -> bytearray:
    data = bytearray()
    for block in copy_blocks_out(connection, statement, parameters):
        data += block
    return data


def encode(columns: list[Column]) -> Iterator[Bytes]:
    """The rows of COPY BINARY without header and trailer, in chunks of `CHUNK_ROWS`."""
    n = len(columns[0].vectors) if isinstance(columns[0], Halfvec) else len(columns[0])
    fixed = all(isinstance(column, np.ndarray | Halfvec) for column in columns)
    for start in range(0, n, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, n)
        yield _fixed_rows(columns, start, stop) if fixed else _ragged_rows(columns, start, stop)


@dataclass(frozen=True)
class _Fixed:
    """A column of fields of one width: bytes the same in each row, then those of each row."""

    same: Bytes
    """(h,)"""
    width: int
    """Of all."""
    own: Callable[[slice], Bytes]
    """(n, width - h) of a slice of rows; it may be overwritten by the next call."""


@dataclass(frozen=True)
class _Ragged:
    """Fields of different widths: the bytes of all rows, and where each begins and ends."""

    data: Bytes
    offsets: NDArray[np.int64]
    null: NDArray[np.bool_]


def _fixed_rows(columns: list[Column], start: int, stop: int) -> Bytes:
    fields = [_fixed(column, min(BLOCK_ROWS, stop - start)) for column in columns]
    same = [_bytes_of(len(fields), ">i2")]
    for field in fields:
        own = np.zeros(field.width - len(field.same), np.uint8)
        same += [_bytes_of(field.width, ">i4"), field.same, own]
    pattern = np.concatenate(same)
    rows = np.empty((stop - start, len(pattern)), np.uint8)
    for first in range(start, stop, BLOCK_ROWS):
        chunk = slice(first, min(first + BLOCK_ROWS, stop))
        # Bytes, not a structured array of the fields: numpy copies nested ones part by part.
        block = rows[first - start : chunk.stop - start]
        block[:] = pattern
        end = 2
        for field in fields:
            end += 4 + field.width
            block[:, end - field.width + len(field.same) : end] = field.own(chunk)
    return rows.reshape(-1)


def _ragged_rows(columns: list[Column], start: int, stop: int) -> Bytes:
    n = stop - start
    chunk = slice(start, stop)
    fields = [
        _fixed(column, n) if isinstance(column, np.ndarray | Halfvec) else _ragged(column[chunk])
        for column in columns
    ]
    widths = [
        np.diff(field.offsets) if isinstance(field, _Ragged) else np.full(n, field.width)
        for field in fields
    ]
    sizes = 2 + sum(width + 4 for width in widths)
    ends = np.cumsum(sizes)
    buffer = np.empty(int(ends[-1]), np.uint8)
    place = ends - sizes
    _scatter(buffer, place, np.full(n, len(fields), ">i2"))
    place = place + 2
    for field, width in zip(fields, widths, strict=True):
        if isinstance(field, _Ragged):
            _scatter(buffer, place, np.where(field.null, NULL, width).astype(">i4"))
            place = place + 4
            where = np.repeat(place - field.offsets[:-1], width)
            buffer[where + np.arange(len(field.data))] = field.data
        else:
            _scatter(buffer, place, width.astype(">i4"))
            place = place + 4
            _scatter(buffer, place, np.broadcast_to(field.same, (n, len(field.same))))
            _scatter(buffer, place + len(field.same), field.own(chunk))
        place = place + width
    return buffer


def _scatter(buffer: Bytes, places: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Write row i of `values` at places[i]."""
    data = _row_bytes(values)
    buffer[places[:, None] + np.arange(data.shape[1])] = data


def _bytes_of(number: int, kind: str) -> Bytes:
    return np.frombuffer(np.array(number, kind), np.uint8)


def _row_bytes(values: NDArray[Any]) -> Bytes:
    """(n, bytes of a row)"""
    width = values.dtype.itemsize * math.prod(values.shape[1:])
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)


def _ragged(part: pa.Array | pa.ChunkedArray) -> _Ragged:
    if isinstance(part, pa.ChunkedArray):
        part = part.combine_chunks()
    return _times(part) if pa.types.is_timestamp(part.type) else _texts(part)


def _fixed(column: Column, rows: int) -> _Fixed:
    """How a column goes over the wire, by slices of at most `rows` rows."""
    if isinstance(column, Halfvec):
        return _halfvec(column.vectors)
    assert isinstance(column, np.ndarray)
    if column.ndim == 2:
        return _array(column, rows)
    wire = column.dtype if column.dtype.kind == "S" else _big_endian(column.dtype)
    return _Fixed(
        np.empty(0, np.uint8), wire.itemsize, lambda chunk: _row_bytes(column[chunk].astype(wire))
    )


def _big_endian(kind: np.dtype[Any]) -> np.dtype[Any]:
    if kind.kind + str(kind.itemsize) not in _ELEMENT_OIDS:
        raise TypeError(f"no Postgres type for {kind}")
    return kind.newbyteorder(">")


def _halfvec(vectors: NDArray[Any]) -> _Fixed:
    """The number of dimensions, an unused number, and the elements."""
    dimensions = vectors.shape[1]

    def own(chunk: slice) -> Bytes:
        with np.errstate(over="ignore"):  # an infinity is refused by the server
            return _row_bytes(vectors[chunk].astype(">f2"))

    same = np.concatenate([_bytes_of(dimensions, ">i2"), _bytes_of(0, ">i2")])
    return _Fixed(same, len(same) + 2 * dimensions, own)


def _array(values: NDArray[Any], rows: int) -> _Fixed:
    """One-dimensional Postgres arrays: a header, then each element with its width."""
    k = values.shape[1]
    kind = _big_endian(values.dtype)
    oid = _ELEMENT_OIDS[kind.kind + str(kind.itemsize)]
    dimensions, no_null, first = int(k > 0), 0, 1
    header = [dimensions, no_null, oid] + ([k, first] if k else [])
    # Made once: the page faults of new memory would cost more than all the rest.
    elements = np.empty((rows, k), [("width", ">i4"), ("value", kind)])
    elements["width"] = kind.itemsize

    def own(chunk: slice) -> Bytes:
        part = elements[: chunk.stop - chunk.start]
        part["value"] = values[chunk]
        return _row_bytes(part)

    same = np.frombuffer(np.array(header, ">i4"), np.uint8)
    return _Fixed(same, len(same) + k * (4 + kind.itemsize), own)


def _times(part: pa.Array) -> _Ragged:
    null = _nulls(part)
    unix = part.cast(pa.timestamp("us", tz=part.type.tz)).cast(pa.int64()).fill_null(0).to_numpy()
    values = (unix[~null] - EPOCH_MICROSECONDS).astype(">i8")
    offsets = np.concatenate([[0], np.cumsum(np.where(null, 0, 8))]).astype(np.int64)
    return _Ragged(values.view(np.uint8), offsets, null)


def _texts(part: pa.Array) -> _Ragged:
    null = _nulls(part)
    large = part.fill_null("").cast(pa.large_string())
    _, offset_buffer, data_buffer = large.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[large.offset : large.offset + len(large) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
    return _Ragged(data[offsets[0] : offsets[-1]], offsets - offsets[0], null)


def _nulls(part: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(part.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
