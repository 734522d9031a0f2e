"""What a vector depends on, as 32 bytes: which vectors are known, and which rows changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray, Catalog, Int32Array, Int64Array
from recjob.catalog.hashing import mix

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Held:
    """Entities of the database, and what the vector of each depends on."""

    numbers: Int32Array
    """(n,) the database's keys."""
    keys: UInt8Array
    """(n, 32); zeros where there is no vector."""


@dataclass(frozen=True)
class Changes:
    """What turns one `Held` into another."""

    gone: Int32Array
    """The database's keys of those whose vector is no longer there, or another one."""
    new: Int64Array
    """Rows of the newer whose vector was not there, or another one; ascending."""


def picture_keys(catalog: Catalog) -> UInt8Array:
    """(n_items, 32) sha256 of each item's picture, zeros in quarantine."""
    text = "".join(image or "0" * 64 for image in catalog.item_image)
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 32)


def outfit_keys(catalog: Catalog) -> UInt8Array:
    """(n_outfits, 32) a hash of the set of an outfit's pictures, zeros where one is missing.

    The sum over the items of their pictures' hashes, each of its four words mixed first: the
    order does not matter.
    """
    words = picture_keys(catalog).view("<u8").astype(np.uint64)
    mixed = np.vstack([mix(words), np.zeros((1, words.shape[1]), np.uint64)])  # for padding
    total = mixed[catalog.outfit_items].sum(axis=1, dtype=np.uint64)
    total[~catalog.outfit_usable] = 0
    keys: UInt8Array = total.astype("<u8").view(np.uint8).reshape(-1, 32)
    return keys


def places(wanted: UInt8Array, known: UInt8Array) -> Int64Array:
    """(n,) row in `known (m, 32)` of each of `wanted (n, 32)`, -1 where it has none."""
    found = pc.index_in(_binary(wanted), value_set=_binary(known))
    return np.asarray(found.fill_null(-1), dtype=np.int64)


def distinct(keys: UInt8Array) -> tuple[Int64Array, Int64Array]:
    """Rows `(m,)` of the first of each distinct key of `keys (n, 32)`, ascending, and for each
    key `(n,)` its place among them.
    """
    place = np.asarray(_binary(keys).dictionary_encode().indices, dtype=np.int64)
    return np.unique(place, return_index=True)[1].astype(np.int64), place


def changes(before: Held | None, now: Held) -> Changes:
    """What differs; everything where nothing is known of before."""
    there = now.keys.any(axis=1)
    if before is None:
        return Changes(np.empty(0, np.int32), np.flatnonzero(there))
    was_there = before.keys.any(axis=1)
    row = _rows(before.numbers, now.numbers)
    same = there & (row >= 0)
    same[same] = (now.keys[same] == before.keys[row[same]]).all(axis=1)
    kept: BoolArray = np.zeros(len(before.numbers), np.bool_)
    kept[row[same]] = True
    return Changes(before.numbers[was_there & ~kept], np.flatnonzero(there & ~same))


def _rows(numbers: Int32Array, wanted: Int32Array) -> Int64Array:
    """(n,) where each of `wanted (n,)` is in `numbers (m,)`, -1 where it is not."""
    if not len(numbers):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(numbers, kind="stable")
    row = order[np.minimum(np.searchsorted(numbers[order], wanted), len(numbers) - 1)]
    return np.where(numbers[row] == wanted, row, -1)


def _binary(keys: UInt8Array) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(keys))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(keys.shape[1]), len(keys), [None, buffer])
