"""Users who asked to be forgotten: their rows, and the tombstones that keep them out.

A tombstone is HMAC-SHA256 of the user's id under a key that never leaves the database: it tells
whether an id was forgotten and does not tell ids. The hashing is in migration 0010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from recjob.catalog.tables import FolderTables

IDS_AT_ONCE: Final = 100_000
"""Ids that are sent in one array: a few megabytes."""


@dataclass(frozen=True)
class LeftOut:
    """Rows of an import that are a forgotten user's."""

    users: int = 0
    """Different users."""
    interactions: int = 0
    negatives: int = 0


def forget_user(connection: Connection, user_id: str) -> dict[str, int]:
    """Write the tombstone and delete the user's rows, in the caller's transaction.

    Rows deleted by table; empty where the user was not there. Done twice, nothing changes.
    """
    counts = connection.scalar(text("SELECT forget_user(:user_id)"), {"user_id": user_id})
    return dict(counts or {})


def is_forgotten(connection: Connection, user_id: str) -> bool:
    """Whether there is a tombstone for this id."""
    return bool(forgotten_among(connection, [user_id]))


def forgotten_among(connection: Connection, user_ids: Sequence[str]) -> frozenset[str]:
    """Those of the ids that are forgotten. Asks nothing more where nobody is."""
    if not connection.scalar(text("SELECT EXISTS (SELECT FROM forgotten_user)")):
        return frozenset()
    found: set[str] = set()
    for start in range(0, len(user_ids), IDS_AT_ONCE):
        found.update(
            connection.scalars(
                text("SELECT forgotten_among(CAST(:ids AS text[]))"),
                {"ids": list(user_ids[start : start + IDS_AT_ONCE])},
            )
        )
    return frozenset(found)


def without_forgotten(connection: Connection, tables: FolderTables) -> tuple[FolderTables, LeftOut]:
    """A checked folder without the rows of forgotten users, and how many those were."""
    named = (tables.users, tables.interactions, tables.negatives)
    chunks = [chunk for table in named for chunk in table["user_id"].chunks]
    ids = pc.unique(pa.chunked_array(chunks, pa.string())).to_pylist()
    forgotten = forgotten_among(connection, ids)
    if not forgotten:
        return tables, LeftOut()
    those = pa.array(sorted(forgotten), pa.string())
    users, interactions, negatives = (
        table.filter(pc.invert(pc.is_in(table["user_id"], those))) for table in named
    )
    return (
        replace(tables, users=users, interactions=interactions, negatives=negatives),
        LeftOut(
            users=len(forgotten),
            interactions=tables.interactions.num_rows - interactions.num_rows,
            negatives=tables.negatives.num_rows - negatives.num_rows,
        ),
    )
