"""Which positives train, validate and test (Sec. 4.1.1), and who trains at all."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import (
    ANY_VALIDATION,
    NO_PART,
    NO_TIME,
    BoolArray,
    Catalog,
    Int8Array,
    Int32Array,
    Int64Array,
)
from recjob.catalog.hashing import UInt64Array, fractions, keyed_hashes, pair_hashes, set_hashes
from recjob.catalog.item_disjoint import disjoint_places
from recjob.errors import DataError
from recjob.settings import SplitSettings, UserSettings

LEFT_OUT: Final = -1
"""In place of a `Part`: the positive neither trains nor validates nor tests, as it would tell the
training of what is tested."""

Float64Array = NDArray[np.float64]


class Part(IntEnum):
    """A part of the positives. Teacher and student validate on different halves (Sec. 4.1.1)."""

    TRAIN = 0
    VALIDATION_TEACHER = 1
    VALIDATION_STUDENT = 2
    TEST = 3


def split_parts(catalog: Catalog, settings: SplitSettings) -> Int8Array:
    """(n_positives,) the `Part` of each positive, or LEFT_OUT.

    - auto: as the data say, and by hash where they say nothing.
    - hash: by a keyed hash of the user's id and the outfit's set of item ids alone, so that
      whatever else the catalog gains or loses, and whatever the outfit is called, a positive
      stays where it is.
    - files: as the data say; a positive of which they say nothing trains.
    - item-disjoint: a user's held-out outfits and training outfits have no item in common.
    - time: of each user's outfits the newest test, those before validate; one without a time
      trains.

    Shares hold on average, not exactly. Except by hash alone, where it cannot happen, a user's
    outfit whose equal (another outfit of the same items) is in a later part is left out.

    Raises DataError where the data lack what `settings.kind` goes by.
    """
    hashes = _positive_hashes(catalog, settings.key)
    given = catalog.positive_part if settings.kind == "auto" else None
    if settings.kind == "hash" or (settings.kind == "auto" and given is None):
        return _by_fraction(fractions(hashes), settings)
    if given is not None:
        parts = np.where(given == NO_PART, _by_fraction(fractions(hashes), settings), given)
    elif settings.kind == "files":
        parts = _files_parts(catalog)
    elif settings.kind == "time":
        parts = _coarse(_time_places(catalog, hashes, settings), settings)
    else:
        held = (settings.validation + settings.test) / _total(settings)
        places, left_out = disjoint_places(catalog, hashes, held, _user_offsets(catalog, settings))
        parts = _coarse(places, settings)
        parts[left_out] = LEFT_OUT
    # A hash of the hash: the halves have nothing to do with what the parts were made by.
    second_half = fractions(pair_hashes(hashes, hashes)) >= 1 / 2
    halves = np.where(second_half, Part.VALIDATION_STUDENT, Part.VALIDATION_TEACHER)
    parts = np.where(parts == ANY_VALIDATION, halves, parts).astype(np.int8)
    parts[_has_later_equal(catalog, parts)] = LEFT_OUT
    return parts


def brings_split(catalog: Catalog, settings: SplitSettings) -> bool:
    """Whether the split is one that the data bring; then they may bring its negatives, too."""
    return settings.kind == "files" or (
        settings.kind == "auto" and catalog.positive_part is not None
    )


def split_name(catalog: Catalog, settings: SplitSettings) -> str:
    """The kind of split, for a reader; of `auto`, what it comes to with these data."""
    if settings.kind != "auto":
        return settings.kind
    if catalog.positive_part is None:
        return "hash"
    return "files, else hash" if (catalog.positive_part == NO_PART).any() else "files"


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


def _positive_hashes(catalog: Catalog, key: str) -> UInt64Array:
    users = keyed_hashes(catalog.user_ids, key, "user")
    items = keyed_hashes(catalog.item_ids, key, "item")
    outfits = set_hashes(catalog.outfit_items, items)
    user, outfit = catalog.positives.T
    return pair_hashes(users[user], outfits[outfit])


def _user_offsets(catalog: Catalog, settings: SplitSettings) -> Float64Array:
    """(n_users,) in [0, 1): which way a user's share is rounded, so that it holds on average."""
    return fractions(keyed_hashes(catalog.user_ids, settings.key, "rounding"))


def _total(settings: SplitSettings) -> int:
    return settings.train + settings.validation + settings.test


def _by_fraction(fraction: Float64Array, settings: SplitSettings) -> Int8Array:
    half = settings.validation / 2
    shares = np.array([settings.train, half, half, settings.test])
    borders = np.cumsum(shares)[:-1] / shares.sum()
    return np.searchsorted(borders, fraction, side="right").astype(np.int8)


def _coarse(places: Float64Array, settings: SplitSettings) -> Int8Array:
    """(n,) TRAIN, ANY_VALIDATION or TEST by the place of each positive between 0 and 1."""
    borders = np.cumsum([settings.train, settings.validation]) / _total(settings)
    names = np.array([Part.TRAIN, ANY_VALIDATION, Part.TEST], np.int8)
    return names[np.searchsorted(borders, places, side="right")]


def _files_parts(catalog: Catalog) -> Int8Array:
    if catalog.positive_part is None:
        raise DataError(
            'split.kind is "files", but the data name no parts; add a column part to interactions '
            'and import them again, or choose another split.kind, as "hash"'
        )
    given = catalog.positive_part
    return np.where(given == NO_PART, Part.TRAIN, given).astype(np.int8)


def _time_places(catalog: Catalog, hashes: UInt64Array, settings: SplitSettings) -> Float64Array:
    """(n_positives,) each positive's place among those of its user, the oldest first."""
    times = catalog.positive_at
    if times is None:
        raise DataError(
            'split.kind is "time", but no interaction has a time; add a column at to interactions '
            'and import them again, or choose another split.kind, as "hash"'
        )
    places = np.zeros(len(times))
    timed = np.flatnonzero(times != NO_TIME)
    user = catalog.positives[timed, 0]
    order = np.lexsort((hashes[timed], times[timed], user))
    count = np.bincount(user, minlength=catalog.n_users)
    first = np.cumsum(count) - count
    user = user[order]
    rank = np.arange(timed.size) - first[user]
    places[timed[order]] = (rank + _user_offsets(catalog, settings)[user]) / count[user]
    return places


def _has_later_equal(catalog: Catalog, parts: Int8Array) -> BoolArray:
    """(n_positives,) whether the same user has the same item set in a later part as well."""
    if not parts.size:
        return np.zeros(0, np.bool_)
    user, outfit = catalog.positives.T
    pairs = pair_hashes(user.astype(np.uint64), set_hashes(catalog.outfit_items)[outfit])
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    latest = np.maximum.reduceat(parts[order], starts)
    sizes = np.diff(np.concatenate([starts, [parts.size]]))
    later = np.empty(parts.size, np.bool_)
    later[order] = parts[order] < np.repeat(latest, sizes)
    return later
