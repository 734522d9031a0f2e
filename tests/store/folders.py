"""Small folders for tests, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from sqlalchemy import Connection

from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.tables import (
    INTERACTIONS_SCHEMA,
    ITEMS_SCHEMA,
    NEGATIVES_SCHEMA,
    OUTFITS_SCHEMA,
    USERS_SCHEMA,
    FolderTables,
)
from recjob.store.catalog_import import ImportCounts, write_tables


def folder(
    items: Sequence[tuple[str, str, str, bool, str]] = (),
    outfits: Sequence[tuple[str, Sequence[str], bool]] = (),
    interactions: Sequence[
        tuple[str, str, datetime | None] | tuple[str, str, datetime | None, str | None]
    ] = (),
    users: Sequence[str] = (),
    negatives: Sequence[tuple[str, str, Sequence[str], str]] = (),
) -> FolderTables:
    """A checked folder with these rows; an interaction may lack its part."""
    return FolderTables(
        Path("folder"),
        _table(items, ITEMS_SCHEMA),
        _table(outfits, OUTFITS_SCHEMA),
        _table([(*row, None)[:4] for row in interactions], INTERACTIONS_SCHEMA),
        _table([(user,) for user in users], USERS_SCHEMA),
        _table(negatives, NEGATIVES_SCHEMA),
        FolderPictures(Path("folder")),
    )


def write(
    connection: Connection, tables: FolderTables, bad: Mapping[str, str] | None = None
) -> ImportCounts:
    """Write it with a made-up hash for every picture that is not bad."""
    bad = bad or {}
    images = tables.items["image"].to_pylist()
    hashes = ["" if image in bad else sha(image) for image in images]
    return write_tables(connection, tables, hashes, bad)


def sha(image: str) -> str:
    """A sha256 of the right length that a person can recognise."""
    return image.encode().hex().ljust(64, "0")[:64]


def shop(n_items: int = 12, n_outfits: int = 20, n_users: int = 6) -> FolderTables:
    """Items i00.., outfits o00.. of two items, users u00..; user u likes outfits u and u + 1.

    The last user likes nothing.
    """
    return folder(
        items=[(f"i{n:02}", "top", f"i{n:02}.jpg", True, "{}") for n in range(n_items)],
        outfits=[
            (f"o{n:02}", [f"i{n % n_items:02}", f"i{(n + 1 + n // n_items) % n_items:02}"], True)
            for n in range(n_outfits)
        ],
        interactions=[
            (f"u{n:02}", f"o{liked:02}", None) for n in range(n_users - 1) for liked in (n, n + 1)
        ],
        users=[f"u{n:02}" for n in range(n_users)],
    )


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
