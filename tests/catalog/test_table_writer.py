"""What is written as CSV or Parquet is read again as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.table_writer import Form, write_tables
from recjob.catalog.tables import (
    INTERACTIONS_SCHEMA,
    ITEMS_SCHEMA,
    NEGATIVES_SCHEMA,
    OUTFITS_SCHEMA,
    USERS_SCHEMA,
    FolderTables,
    read_folder,
)
from recjob.errors import DataError
from recjob.settings import CatalogSettings

TABLES = ("items", "outfits", "interactions", "users", "negatives")
NOTED = r'{"colour": "white, \"off\"", "größe": "38", "note": "two\nlines"}'


def tables(
    folder: Path, at: datetime | None = None, part: str | None = None, first: str = "a,1"
) -> FolderTables:
    items: list[tuple[Any, ...]] = [
        (first, "top", "images/a.jpg", True, NOTED),
        ('b"2', "bottom", "images/b.jpg", False, "{}"),
        ("c 3", "shoes", "", True, '{"colour": "black"}'),
    ]
    outfits: list[tuple[Any, ...]] = [("o1", [first, 'b"2', "c 3"], True), ("o2", ["c 3"], False)]
    likes: list[tuple[Any, ...]] = [
        ("u1", "o1", at, part),
        ("u2", "o1", None, None),
        ("u1", "o2", at, "test"),
    ]
    negatives: list[tuple[Any, ...]] = [
        ("u1", "o2", ["c 3", first], "random"),
        ("u1", "o2", [first], "hard"),
    ]
    rows: dict[str, tuple[list[tuple[Any, ...]], pa.Schema]] = {
        "items": (items, ITEMS_SCHEMA),
        "outfits": (outfits, OUTFITS_SCHEMA),
        "interactions": (likes, INTERACTIONS_SCHEMA),
        "users": ([("u1",), ("u9",)], USERS_SCHEMA),
        "negatives": (negatives, NEGATIVES_SCHEMA),
    }
    made = {
        name: pa.table([list(column) for column in zip(*values, strict=True)], schema=schema)
        for name, (values, schema) in rows.items()
    }
    return FolderTables(folder=folder, **made, pictures=FolderPictures(folder))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_read_as_it_was(form: Form, tmp_path: Path) -> None:
    at = datetime(2026, 3, 1, 18, 30, 0, 250_000, tzinfo=UTC)
    given = tables(tmp_path, at, "validation-teacher")
    write_tables(given, tmp_path, form)
    assert {path.suffix for path in tmp_path.iterdir()} == {f".{form}"}
    found = read_folder(tmp_path, CatalogSettings())
    for name in TABLES:
        assert getattr(found, name).to_pylist() == getattr(given, name).to_pylist(), name


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_say_nothing_are_left_out(form: Form, tmp_path: Path) -> None:
    given = tables(tmp_path)
    untold = given.interactions.set_column(3, "part", pa.nulls(3, pa.string()))
    write_tables(
        FolderTables(
            folder=tmp_path,
            items=given.items,
            outfits=given.outfits,
            interactions=untold,
            users=USERS_SCHEMA.empty_table(),
            negatives=NEGATIVES_SCHEMA.empty_table(),
            pictures=given.pictures,
        ),
        tmp_path,
        form,
    )
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {"items", "outfits", "interactions"}
    found = read_folder(tmp_path, CatalogSettings())
    assert found.interactions.to_pylist() == untold.to_pylist()
    if form == "csv":
        header = (tmp_path / "interactions.csv").read_text().splitlines()[0]
        assert header == '"user_id","outfit_id"'


def test_ids_that_csv_cannot_hold(tmp_path: Path) -> None:
    given = tables(tmp_path, first="a|b")
    with pytest.raises(DataError, match=r"item 'a\|b': CSV joins .* write Parquet"):
        write_tables(given, tmp_path, "csv")
