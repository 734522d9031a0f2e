"""Mutations of valid inputs: of bytes, of JSON, of safetensors, of tables."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

AWKWARD_TEXTS: Final = (
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\x7f\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    '"',
    "'",
    "a,b",
    "a|b",
    "|",
    "\n",
    "\r",
    "\t\\",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "NaN",
    "-inf",
    "1e999",
    "-1",
    "0x10",
    str(2**31),
    str(2**63),
    "9" * 400,
    "0000-00-00",
    "9999-12-31T23:59:59.999999999+14:00",
    "2026-02-30",
    "x" * 3000,
    "ä",
    "é" * 40,
    "\U0001f457",
    "{}",
    "${HOME}",
    "%s%n",
    "true",
    "null",
)
AWKWARD_BYTES: Final = (
    *(text.encode() for text in AWKWARD_TEXTS),
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xff" * 8,
    b"\0" * 16,
    b"[" * 3000,
    b'{"a":' * 3000,
)
AWKWARD_VALUES: Final[tuple[Any, ...]] = (
    *AWKWARD_TEXTS,
    "\ud800",
    None,
    True,
    False,
    -1,
    0,
    0.5,
    2**31,
    2**63,
    10**400,
    float("inf"),
    float("nan"),
    [],
    {},
    [[]],
    ["a"] * 50,
    {"a": {"b": []}},
    [0, -5],
    [5, 3],
)
LONGEST_EDIT: Final = 12


@st.composite
def mutated_bytes(draw: DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A valid input with one to four places changed, taken out, doubled, or cut off."""
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 4))):
        edit = draw(st.sampled_from(("replace", "insert", "remove", "double", "flip", "cut")))
        # Heads and ends say what the rest is; places in between are all alike.
        at = draw(st.one_of(st.integers(0, min(len(data), 64)), st.integers(0, len(data))))
        at = draw(st.sampled_from((at, len(data) - at)))
        if edit == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif edit == "cut":
            del data[at:]
        elif edit == "remove":
            del data[at : at + draw(st.integers(1, LONGEST_EDIT))]
        elif edit == "double":
            end = at + draw(st.integers(1, 4 * LONGEST_EDIT))
            data[at:at] = data[at:end]
        else:
            piece = draw(
                st.one_of(st.sampled_from(AWKWARD_BYTES), st.binary(max_size=LONGEST_EDIT))
            )
            data[at : at + (len(piece) if edit == "replace" else 0)] = piece
    return bytes(data)


@st.composite
def mutated_value(draw: DrawFn, valid: Any) -> Any:
    """A JSON value with one to three of its parts replaced, taken out or put in."""
    root = [copy.deepcopy(valid)]
    for _ in range(draw(st.integers(1, 3))):
        places = _places(root)
        holder, key = draw(st.sampled_from(places))
        edit = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        value = copy.deepcopy(draw(st.sampled_from(AWKWARD_VALUES)))
        if edit == "remove" and holder is not root:
            del holder[key]
        elif edit == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(AWKWARD_TEXTS))] = value
        elif edit == "add" and holder is not root:
            holder.insert(key, value)
        else:
            holder[key] = value
    return root[0]


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
    return found


def mutated_json(valid: bytes) -> SearchStrategy[bytes]:
    """A JSON text with parts exchanged."""
    return mutated_value(json.loads(valid)).map(lambda value: json.dumps(value).encode())


@st.composite
def mutated_safetensors(draw: DrawFn, valid: bytes) -> bytes:
    """A file whose header has parts exchanged, mostly with the right length before it."""
    length = int.from_bytes(valid[:8], "little")
    header, body = valid[8 : 8 + length], valid[8 + length :]
    changed = draw(mutated_json(header))
    told: int = draw(st.sampled_from((len(changed),) * 6 + (0, 2**63, len(changed) + 1)))
    kept: int = draw(st.sampled_from((len(body),) * 6 + (0, len(body) // 2)))
    return told.to_bytes(8, "little") + changed + body[:kept]


Columns = Mapping[str, Sequence[Any]]
"""A table as its columns: texts, and lists of texts."""


@st.composite
def _mutated_columns(draw: DrawFn, valid: Columns) -> dict[str, list[Any]]:
    table = {name: list(values) for name, values in valid.items()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(table)))
        edit = draw(st.sampled_from(("cell", "cell", "cell", "name", "drop", "more", "row", "no")))
        if edit == "cell" and table[name]:
            row = draw(st.integers(0, len(table[name]) - 1))
            table[name][row] = draw(st.sampled_from(AWKWARD_TEXTS))
        elif edit == "name":
            table[draw(st.sampled_from((*AWKWARD_TEXTS, *valid)))] = table.pop(name)
        elif edit == "drop" and len(table) > 1:
            del table[name]
        elif edit == "more":
            table[draw(st.sampled_from(("colour", "part", "at", *AWKWARD_TEXTS)))] = list(
                table[name]
            )
        elif edit == "row" and table[name]:
            row = draw(st.integers(0, len(table[name]) - 1))
            for values in table.values():
                values.append(values[row])  # all are equally long
        elif edit == "no":
            table = {other: [] for other in table}
    return table


@st.composite
def mutated_csv(draw: DrawFn, valid: Columns) -> bytes:
    """The table with cells, columns and rows exchanged, as CSV in some dialect and encoding."""
    table = draw(_mutated_columns(valid))
    text = io.StringIO()
    writer = csv.writer(
        text,
        quoting=draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))),
        lineterminator=draw(st.sampled_from(("\n", "\r\n", "\r"))),
        delimiter=draw(st.sampled_from(",,,,,;\t")),
    )
    writer.writerow(table)
    rows = [
        ["|".join(cell) if isinstance(cell, list) else cell for cell in row]
        for row in zip(*table.values(), strict=True)
    ]
    writer.writerows(rows)
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")))
    return text.getvalue().encode(encoding, "replace")


ARROW_VALUES: Final[tuple[tuple[Any, pa.DataType], ...]] = (
    (None, pa.null()),
    (None, pa.string()),
    (True, pa.bool_()),
    (-1, pa.int8()),
    (2**63, pa.uint64()),
    (float("nan"), pa.float32()),
    (1.5, pa.float64()),
    (1.5, pa.float16()),
    (Decimal("1.5"), pa.decimal128(5, 2)),
    (b"\xff\xfe", pa.binary()),
    (b"\xff\xfe", pa.large_binary()),
    (b"ab", pa.binary(2)),
    ("x", pa.large_string()),
    ("x", pa.dictionary(pa.int8(), pa.string())),
    (1, pa.dictionary(pa.int8(), pa.int64())),
    (date(1, 1, 1), pa.date32()),
    (date(9999, 12, 31), pa.date64()),
    (datetime(9999, 1, 1), pa.timestamp("us")),
    (datetime(1, 1, 1), pa.timestamp("us", "UTC")),
    (datetime(2026, 1, 1), pa.timestamp("ns", "Europe/Berlin")),
    (2**62, pa.timestamp("ms")),
    (2**62, pa.timestamp("ms", "+01:00")),
    (-(2**63), pa.timestamp("ns", "UTC")),
    (2**62, pa.time64("us")),
    (timedelta(1), pa.duration("us")),
    (["a", "a"], pa.list_(pa.string())),
    (["a", None], pa.list_(pa.string())),
    ([None], pa.large_list(pa.string())),
    ([1], pa.list_(pa.int64())),
    ([b"\xff"], pa.list_(pa.binary())),
    ([["a"]], pa.list_(pa.list_(pa.string()))),
    (["a", "b"], pa.list_(pa.string(), 2)),
    ([], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    ({"a": 1}, pa.struct([("a", pa.int64())])),
    ([("a", 1)], pa.map_(pa.string(), pa.int64())),
)
"""A value, and a type of Parquet that it can have."""


@st.composite
def mutated_parquet(draw: DrawFn, valid: Columns) -> bytes:
    """The table with a column of another type, or cells and columns exchanged, as Parquet."""
    table = draw(st.one_of(st.just(valid), _mutated_columns(valid)))
    names, arrays = list(table), []
    for values in table.values():
        lists = any(isinstance(value, list) for value in values)
        cells = [value if isinstance(value, list) == lists else [value] for value in values]
        arrays.append(pa.array(cells, pa.list_(pa.string()) if lists else pa.string()))
    if draw(st.booleans()) and arrays:
        place = draw(st.integers(0, len(arrays) - 1))
        value, kind = draw(st.sampled_from(ARROW_VALUES))
        count = len(arrays[place])
        keep = draw(st.integers(0, count))
        cells = [value] * keep + [None] * (count - keep)
        arrays[place] = pa.array(cells, kind)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays, names=names), sink)
    return sink.getvalue()
