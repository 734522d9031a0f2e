"""The compiled pass of the exact top-K (numba): imported only where it pays to compile it.

A block of users has `Lists`: per user up to `keys.shape[1]` candidates and a threshold that only
rises. `scan` appends what reaches the threshold. When a list is full, `_tighten` raises the
threshold as far as the bounds prove it safe and drops what fell below. Candidates are `exact.Keys`
of approximate scores; where too many lie within the bounds of each other, they are rescored
exactly at once (`settled`), so a list never outgrows its place. Nothing is ever guessed: what is
not emitted cannot belong to the k best, whatever order the outfits come in.

All kernels release the GIL; threads work on different blocks.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recjob.ranking.exact import EMPTY, Float32Array, Float64Array, Int64Array, Keys
from recjob.ranking.lanes import (
    LANES,
    TREE_WIDTH,
    at_least,
    fetch_row,
    first_set,
    float_bits,
    float_of,
    tree_product,
)
from recjob.ranking.outfit_kernels import AHEAD, SIGN

NOTHING: Final = 2**31 - 1
"""A threshold that no score reaches, when shifted like a score."""
EVERYTHING: Final = -(2**31)
"""A threshold that every score reaches, when shifted like a score."""
_LOW: Final = 0xFFFFFFFF


class Lists(NamedTuple):
    """The candidates of a block of R users, and what it takes to judge them."""

    k: int
    shift: int
    """Bits of a float32 that a score of a tile lacks: 16 for bf16, 0 for float32."""
    rounding: float
    """Relative rounding of a score of a tile to its format."""
    users: Float32Array
    """(R, d) as given."""
    outfits: Float32Array
    """(N, d) as given."""
    exponents: Int64Array
    """(R,) score = a tile's score times 2 ** exponent."""
    slack: Float64Array
    """(R,) bound of a tile's error before its rounding."""
    thresholds: NDArray[np.int32]
    """(R,) a score of a tile enters the list if its sortable bits reach this."""
    counts: Int64Array
    """(R,) candidates in the list."""
    settled: Int64Array
    """(R,) of which the first so many have exact scores."""
    keys: Keys
    """(R, room)."""
    seen_starts: Int64Array
    """(R + 1,) where each user's excluded outfits begin in `seen`."""
    seen: Int64Array
    """Excluded outfits, ascending per user."""


@njit(nogil=True)
def scan(lists: Lists, tile: NDArray[Any], columns: Int64Array) -> None:
    """Add to the lists what reaches their thresholds in a tile.

    `tile (R * C,)`: the bits of the scores, a user's C scores together, C a multiple of LANES.
    """
    width = len(columns)
    # Fields are read once: each reading of one counts references, slowly.
    keys, counts, thresholds = lists.keys, lists.counts, lists.thresholds
    seen, seen_starts, shift = lists.seen, lists.seen_starts, lists.shift
    room = keys.shape[1] - LANES
    for row in range(len(counts)):
        threshold = thresholds[row]
        count = counts[row]
        first_seen, last_seen = seen_starts[row], seen_starts[row + 1]
        for start in range(0, width, LANES):
            offset = row * width + start
            mask = at_least(tile, offset, threshold)
            if mask == 0:
                continue
            if count > room:
                counts[row] = count
                _tighten(lists, row)
                count = counts[row]
                threshold = thresholds[row]
                mask = at_least(tile, offset, threshold)
            while mask != 0:
                place = first_set(mask)
                mask = np.uint32(mask & (mask - np.uint32(1)))
                column = columns[start + place]
                if column >= 0 and not _is_seen(seen, first_seen, last_seen, column):
                    bits = np.int32(np.int32(tile[offset + place]) << shift)
                    keys[row, count] = _key(bits, column)
                    count += 1
        counts[row] = count


@njit(nogil=True)
def finish(
    lists: Lists, allowed: NDArray[np.bool_], indices: Int64Array, scores: Float32Array
) -> None:
    """Write the k best of each user into `indices (R, >= k)` and `scores`; best first.

    A user whose threshold is NOTHING is a zero vector: all scores are zero, so the lowest indices
    win. `allowed (N,)`, or empty where all are, matters to these only.
    """
    for row in range(len(lists.counts)):
        if lists.thresholds[row] == NOTHING >> lists.shift:
            _first_allowed(lists, row, allowed, indices, scores)
            continue
        if lists.settled[row] == 0 and lists.counts[row] > lists.k:
            _drop_below_bound(lists, row)
        _rescore(lists, row)
        count = lists.counts[row]
        ordered = np.sort(lists.keys[row, :count])
        for place in range(count):
            key = ordered[count - 1 - place]
            indices[row, place] = _column(key)
            scores[row, place] = _score(key)


@njit(nogil=True)
def _first_allowed(
    lists: Lists, row: int, allowed: NDArray[np.bool_], indices: Int64Array, scores: Float32Array
) -> None:
    seen, k = lists.seen, lists.k
    first_seen, last_seen = lists.seen_starts[row], lists.seen_starts[row + 1]
    place = 0
    for column in range(len(lists.outfits)):
        if place == k:
            return
        if (len(allowed) == 0 or allowed[column]) and not _is_seen(
            seen, first_seen, last_seen, column
        ):
            indices[row, place] = column
            scores[row, place] = 0
            place += 1


@njit(nogil=True)
def _tighten(lists: Lists, row: int) -> None:
    """Make room in a full list."""
    if lists.settled[row] == 0:
        _drop_below_bound(lists, row)
        if 2 * lists.counts[row] <= lists.keys.shape[1] + lists.k:
            return
    _rescore(lists, row)


@njit(nogil=True)
def _drop_below_bound(lists: Lists, row: int) -> None:
    """Raise the threshold by the k-th approximate score and drop what does not reach it."""
    keys, count, k, shift = lists.keys, lists.counts[row], lists.k, lists.shift
    _select(keys, row, count, k)
    # k outfits score at least this, in the exact order and rounded like any score.
    kth = np.float64(_score(keys[row, k - 1]))
    lowest = kth - lists.rounding * abs(kth) - lists.slack[row]
    _raise_threshold(lists, row, np.float32(math.ldexp(lowest, lists.exponents[row])))
    threshold = lists.thresholds[row]
    kept = k
    for place in range(k, count):
        if (np.int32(keys[row, place] >> 32) >> shift) >= threshold:
            keys[row, kept] = keys[row, place]
            kept += 1
    lists.counts[row] = kept


@njit(nogil=True)
def _rescore(lists: Lists, row: int) -> None:
    """Give every candidate its exact score, keep the k best, raise the threshold by the k-th."""
    keys = lists.keys
    users = lists.users
    outfits = lists.outfits
    k = lists.k
    width = users.shape[1]
    user = np.empty(width)
    terms = np.empty(width)
    for i in range(width):
        user[i] = users[row, i]
    kept = lists.settled[row]
    line = keys[row, k - 1] if kept == k else EMPTY
    count = lists.counts[row]
    for place in range(kept, count):
        if place + AHEAD < count:
            fetch_row(outfits, _column(keys[row, place + AHEAD]))
        column = _column(keys[row, place])
        key = _key(float_bits(_product(user, outfits, column, terms)), column)
        if key > line:
            keys[row, kept] = key
            kept += 1
    if kept >= k:
        _select(keys, row, kept, k)
        kept = k
        _raise_threshold(lists, row, _score(keys[row, k - 1]))
    lists.counts[row] = kept
    lists.settled[row] = kept


@njit(nogil=True)
def _product(user: Float64Array, outfits: Float32Array, column: int, terms: Float64Array) -> Any:
    """The score of a pair, in the order of additions of `exact.tree_sum`."""
    width = len(user)
    if width == TREE_WIDTH:
        return _rounded(tree_product(user, outfits, column))
    half = width // 2
    rest = width - half
    for i in range(half):
        terms[i] = user[i] * np.float64(outfits[column, i]) + user[rest + i] * np.float64(
            outfits[column, rest + i]
        )
    if rest > half:
        terms[half] = user[half] * np.float64(outfits[column, half])
    width = rest
    while width > 1:
        half = width // 2
        rest = width - half
        for i in range(half):
            terms[i] += terms[rest + i]
        width = rest
    return _rounded(terms[0])


@njit(nogil=True)
def _rounded(total: Any) -> Any:
    """The score of a sum; -0.0 becomes 0.0: they tie."""
    return np.float32(total) + np.float32(0)


@njit(nogil=True)
def _raise_threshold(lists: Lists, row: int, reached: Any) -> None:
    """From now on only scores may enter that can round to `reached` or more."""
    if reached == -np.inf:
        return
    # One step below `reached`, in the order of float32: scores up to there cannot.
    previous = _sortable(float_bits(reached)) - 1
    if previous == -1:
        previous = -2  # not from 0.0 to -0.0: they are equal
    below = float_of(np.int32(_sortable(previous)))
    line = math.ldexp(np.float64(below), -lists.exponents[row]) - lists.slack[row]
    line /= (1 + lists.rounding) if line > 0 else (1 - lists.rounding)
    rounded = np.float32(line)
    sortable = _sortable(float_bits(rounded)) - (1 if rounded > line else 0)
    # The arithmetic shift rounds down; the next score of the format is the first above the line.
    threshold = (sortable >> lists.shift) + 1
    if threshold == 0:
        threshold = -1  # -0.0 comes right before 0.0, and they are equal
    lists.thresholds[row] = max(lists.thresholds[row], threshold)


@njit(nogil=True)
def _select(keys: Keys, row: int, count: int, k: int) -> None:
    """Put the k largest of the first `count` keys first and the k-th largest at k - 1."""
    low = 0
    high = count - 1
    target = k - 1
    while low < high:
        middle = (low + high) >> 1
        first, second, third = keys[row, low], keys[row, middle], keys[row, high]
        pivot = max(min(first, second), min(max(first, second), third))
        if pivot == second:
            keys[row, middle] = first
        elif pivot == third:
            keys[row, high] = first
        # The place `low` is free now. No branch depends on a key: it would be guessed wrong.
        end = low + 1
        for place in range(low + 1, high + 1):
            key = keys[row, place]
            keys[row, place] = keys[row, end]
            keys[row, end] = key
            end += int(key > pivot)
        end -= 1
        keys[row, low] = keys[row, end]
        keys[row, end] = pivot
        if end == target:
            return
        if end > target:
            high = end - 1
        else:
            low = end + 1


@njit(nogil=True)
def _is_seen(seen: Int64Array, low: int, end: int, column: int) -> bool:
    """Whether `column` is in the ascending `seen[low:end]`."""
    high = end
    while low < high:
        middle = (low + high) >> 1
        if seen[middle] < column:
            low = middle + 1
        else:
            high = middle
    return low < end and bool(seen[low] == column)


@njit(nogil=True)
def _flip(bits: Any) -> Any:
    return (bits >> 31) & SIGN


@njit(nogil=True)
def _sortable(bits: Any) -> Any:
    return bits ^ _flip(bits)


@njit(nogil=True)
def _key(bits: Any, column: Any) -> Any:
    """`exact.encode` of a score's bits."""
    return (np.int64(_sortable(bits)) << 32) | (_LOW - column)


@njit(nogil=True)
def _column(key: Any) -> Any:
    return _LOW - (key & _LOW)


@njit(nogil=True)
def _score(key: Any) -> Any:
    return float_of(np.int32(_sortable(key >> 32)))
