"""Which positives train, validate and test (Sec. 4.1.1), and who trains at all."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from recjob.catalog.catalog import Catalog, Int8Array, Int32Array, Int64Array
from recjob.catalog.hashing import keyed_hashes, pair_hashes, set_hashes
from recjob.settings import SplitSettings, UserSettings

# The bits of a hash that a float64 holds exactly.
_FRACTION_BITS = 53


class Part(IntEnum):
    """A part of the positives. Teacher and student validate on different halves (Sec. 4.1.1)."""

    TRAIN = 0
    VALIDATION_TEACHER = 1
    VALIDATION_STUDENT = 2
    TEST = 3


def split_parts(catalog: Catalog, settings: SplitSettings) -> Int8Array:
    """(n_positives,) the `Part` of each positive.

    It follows from `settings`, the user's id and the set of item ids of the outfit alone: whatever
    else the catalog gains or loses, and whatever the outfit is called, a positive stays where it
    is. The shares hold on average, not exactly.
    """
    users = keyed_hashes(catalog.user_ids, settings.key, "user")
    items = keyed_hashes(catalog.item_ids, settings.key, "item")
    outfits = set_hashes(catalog.outfit_items, items)
    user, outfit = catalog.positives.T
    hashes = pair_hashes(users[user], outfits[outfit])
    fraction = (hashes >> np.uint64(64 - _FRACTION_BITS)) / 2.0**_FRACTION_BITS
    half = settings.validation / 2
    shares = np.array([settings.train, half, half, settings.test])
    borders = np.cumsum(shares)[:-1] / shares.sum()
    return np.searchsorted(borders, fraction, side="right").astype(np.int8)


def part_positives(catalog: Catalog, parts: Int8Array, *wanted: Part) -> Int32Array:
    """(n, 2) the positives of the parts `wanted` whose outfits have no item in quarantine."""
    chosen = np.isin(parts, wanted) & catalog.outfit_usable[catalog.positives[:, 1]]
    return catalog.positives[chosen]


def training_counts(catalog: Catalog, parts: Int8Array) -> Int64Array:
    """(n_users,) number of training positives without an item in quarantine."""
    users = part_positives(catalog, parts, Part.TRAIN)[:, 0]
    return np.bincount(users, minlength=catalog.n_users).astype(np.int64)


def warm_users(catalog: Catalog, parts: Int8Array, settings: UserSettings) -> Int32Array:
    """(n,) users, ascending, with enough training positives for a vector of their own."""
    counts = training_counts(catalog, parts)
    return np.flatnonzero(counts >= settings.min_training_positives).astype(np.int32)
