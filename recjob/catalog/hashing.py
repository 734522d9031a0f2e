"""64-bit hashes of ids and of item sets, the same on every machine and in every run; of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Int32Array

UInt64Array = NDArray[np.uint64]

# The bits of a hash that a float64 holds exactly.
_FRACTION_BITS = 53
# The constants of splitmix64 (Steele, Lea and Flood, 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(values: UInt64Array) -> UInt64Array:
    """The splitmix64 finaliser of each value: a bijection in which every bit reaches every bit."""
    with np.errstate(over="ignore"):
        mixed = values + _GAMMA
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def keyed_hashes(ids: Iterable[str], key: str, kind: str) -> UInt64Array:
    """(n,) blake2b of each id under `key`; `kind` keeps a user and an item of one name apart."""
    # blake2b takes keys of at most 64 bytes; a digest of the key has any key's strength.
    secret = hashlib.blake2b(key.encode()).digest()
    person = kind.encode()
    digests = [
        hashlib.blake2b(name.encode(), digest_size=8, key=secret, person=person).digest()
        for name in ids
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def set_hashes(items: Int32Array, item_hashes: UInt64Array | None = None) -> UInt64Array:
    """(n,) hash of each row of `items` (n, max_items) as a set: order and padding do not matter.

    An item counts by its entry in `item_hashes`, by default by its index. The sum of mixed values
    is the same in any order; unlike an exclusive or, it does not lose an item that is there twice.
    """
    keys = items.astype(np.int64).view(np.uint64) if item_hashes is None else item_hashes[items]
    mixed = mix(keys)
    mixed[items == PADDING] = 0
    return np.asarray(mixed.sum(axis=1, dtype=np.uint64))


def pair_hashes(users: UInt64Array, sets: UInt64Array) -> UInt64Array:
    """(n,) hash of each pair of a user's hash (or index) and a set's hash."""
    # The set's sum is mixed once more: else user 1 with items 2 and 3 is user 2 with 1 and 3.
    with np.errstate(over="ignore"):
        return mix(mix(users) + mix(sets))


def fractions(hashes: UInt64Array) -> NDArray[np.float64]:
    """Each hash as a number in [0, 1), by its upper bits."""
    return np.asarray((hashes >> np.uint64(64 - _FRACTION_BITS)) / 2.0**_FRACTION_BITS)


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
