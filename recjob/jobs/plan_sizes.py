"""Bytes of a shop: on disks, in Postgres, in the index, in memory; arithmetic on the formats."""

from __future__ import annotations

import math
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from recjob.settings import Settings

DIMENSIONS: Final = 128
FLOAT32: Final = 4
INT32: Final = 4
KEY: Final = 32
"""Bytes of a content hash beside each stored vector."""
ID_IN_MEMORY: Final = 70
"""Bytes of an id of up to 20 characters as a Python string with its place in a tuple."""

# Postgres: the layout of a heap page, checked against a real server by a test.
PAGE: Final = 8192
_PAGE_HEADER: Final = 24
_LINE_POINTER: Final = 4
_ROW_HEADER: Final = 24
_ALIGNMENT: Final = 8
_ARRAY_HEADER: Final = 24
_SHORT: Final = 130
"""Longest array that Postgres stores with a header of one byte in place of four."""
_KIND: Final = 5
"""The word "warm" with its length."""
_TIME: Final = 8
_HALFVEC: Final = 8 + 2 * DIMENSIONS
KEY_ENTRY: Final = 23.4
"""Bytes per row of a primary key over two integers (measured with Postgres 18)."""
INTERACTION_INDEXES: Final = 40.0
"""Bytes per row of the two indexes of `interaction` (measured with Postgres 18)."""
WAL_PER_BYTE: Final = 1.1
"""Bytes of write-ahead log per byte of a table that is filled (measured with Postgres 18)."""

# FAISS; a test compares the first with the module that builds the index, whose import would take
# longer than the whole estimate.
CELLS_PER_ROOT: Final = 4
_ID: Final = 8
_GRAPH_LINK: Final = 4
_LINKS_PER_NEIGHBOUR: Final = 2
"""HNSW keeps twice as many links on its lowest level, where nearly all are."""


class Shop(BaseModel):
    """The size of a shop."""

    model_config = ConfigDict(frozen=True)

    users: int = Field(ge=1)
    outfits: int = Field(ge=1)
    items: int = Field(ge=1)
    interactions: int = Field(ge=0)
    """Positives in all."""
    items_per_outfit: float = Field(4.0, ge=1)
    """On average."""


class SizeRow(BaseModel):
    """One thing and its bytes."""

    what: str
    bytes: int
    where: str


def shop_sizes(shop: Shop, settings: Settings) -> tuple[SizeRow, ...]:
    """Bytes of all that a shop keeps, and of what a machine holds in memory."""
    n_vectors = shop.users + shop.outfits + shop.items
    length = settings.nightly.k + settings.nightly.spare
    lists = lists_bytes(shop.users, length)
    keys_of_lists = round(shop.users * KEY_ENTRY)
    runs = settings.nightly.keep_runs
    vector = DIMENSIONS * FLOAT32
    rows = (
        ("packed pictures", shop.items * settings.images.size**2 * 3, "disk"),
        ("item features", shop.items * (vector + KEY), "artifacts"),
        ("outfit vectors", shop.outfits * (vector + KEY), "artifacts"),
        ("user vectors", shop.users * vector, "artifacts"),
        (f"FAISS index, {settings.index.kind}", index_bytes(shop.outfits, settings), "artifacts"),
        ("shard results of a night", shop.users * length * (INT32 + FLOAT32), "artifacts"),
        ("interactions", heap_bytes(shop.interactions, 2 * INT32 + _TIME), "Postgres"),
        ("  indexes", round(shop.interactions * INTERACTION_INDEXES), "Postgres"),
        ("vectors (halfvec)", heap_bytes(n_vectors, 2 * INT32 + _HALFVEC), "Postgres"),
        ("  primary keys", round(n_vectors * KEY_ENTRY), "Postgres"),
        ("lists of a run", lists, "Postgres"),
        ("  primary key", keys_of_lists, "Postgres"),
        (f"lists of {runs} kept runs", runs * (lists + keys_of_lists), "Postgres"),
        ("WAL of a night's lists", round((lists + keys_of_lists) * WAL_PER_BYTE), "Postgres"),
        ("outfit vectors of a scorer", shop.outfits * vector * 3 // 2, "memory"),
        ("catalog of the job", catalog_bytes(shop), "memory"),
    )
    return tuple(SizeRow(what=what, bytes=size, where=where) for what, size, where in rows)


def catalog_bytes(shop: Shop) -> int:
    """Memory of a job that holds the catalog: ids, items of outfits, positives of users."""
    ids = shop.users + shop.outfits + shop.items
    worn = round(shop.outfits * shop.items_per_outfit)
    return ids * ID_IN_MEMORY + (worn + 2 * shop.interactions) * INT32


def lists_bytes(users: int, length: int) -> int:
    """Heap of a run's partition: a row per user with `length` outfits and scores."""
    array = _ARRAY_HEADER + FLOAT32 * length
    if array <= _SHORT:
        return heap_bytes(users, 2 * INT32 + _KIND + 2 * (array - 3))
    padded = math.ceil((2 * INT32 + _KIND) / INT32) * INT32
    return heap_bytes(users, padded + 2 * array)


def heap_bytes(rows: int, data: int) -> int:
    """Bytes of a heap of rows with `data` bytes of columns each.

    Too much for rows beyond 2 kB (lists of more than 230), which Postgres compresses.
    """
    row = math.ceil((_ROW_HEADER + data) / _ALIGNMENT) * _ALIGNMENT + _LINE_POINTER
    return math.ceil(rows / ((PAGE - _PAGE_HEADER) // row)) * PAGE


def index_bytes(outfits: int, settings: Settings) -> int:
    """Bytes of the FAISS file."""
    vectors = outfits * DIMENSIONS * FLOAT32
    if settings.index.kind == "ivf":
        return vectors + outfits * _ID + cells(outfits, settings) * DIMENSIONS * FLOAT32
    if settings.index.kind == "hnsw":
        return vectors + outfits * settings.index.links * _LINKS_PER_NEIGHBOUR * _GRAPH_LINK
    return vectors


def cells(outfits: int, settings: Settings) -> int:
    """Cells of an IVF index of so many outfits."""
    wanted = settings.index.lists or max(1, round(CELLS_PER_ROOT * math.sqrt(outfits)))
    return min(outfits, wanted)
