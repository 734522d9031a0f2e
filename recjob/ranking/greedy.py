"""The compiled passes that pick lists from pools: maximal marginal relevance, and caps.

Compiled when first called, for a machine's own processor, and not kept on disk (numba's cache is a
pickle). They let go of the interpreter's lock, so threads may run them side by side.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray, Float32Array, Int32Array, Int64Array
from recjob.ranking.rules import Caps, Groups

Int16Array = NDArray[np.int16]

ONE: Final = 2**15 - 1
"""The length of a unit vector in steps of int16. By Cauchy and Schwarz an inner product of two, and
any part of its sum, stays below 2 ** 31."""
ITEM_CAP: Final = 0
"""Column of `skipped`: an item of the outfit is in as many outfits of the list as may share it."""
PATTERN_CAP: Final = 1
"""Column of `skipped`: the list has as many outfits with these categories as it may."""


@numba.njit(nogil=True)
def pick(
    outfits: Int64Array,
    scores: Float32Array,
    directions: Int16Array,
    strength: float,
    pool: int,
    caps: Caps,
    chosen: Int64Array,
    skipped: Int32Array,
) -> None:
    """Fill `chosen (U, k)` with places in the rows of `outfits (U, P)`; -1 where nothing is left.

    MMR chooses among the first `pool` places (0: none), and what follows fills up in its order.
    `skipped (U, 2)` counts the outfits whose turn it was but for a cap. See `choose_lists`.

    An outfit's marginal relevance only sinks while the list grows, so an old value is a bound: it
    is brought up to date only where the bound beats the best of this step (lazy greedy, Minoux
    1978). The result is that of computing everything.
    """
    k = chosen.shape[1]
    width = min(pool, outfits.shape[1])
    weight = strength / (ONE * ONE)
    item_uses = np.zeros(caps.n_items, np.int32)
    pattern_uses = np.zeros(caps.n_patterns, np.int32)
    relevance = np.empty(width, np.float64)
    nearest = np.empty(width, np.int64)  # largest product with those compared with
    marginal = np.empty(width, np.float64)
    compared = np.empty(width, np.int64)  # with so many of those taken
    for row in range(outfits.shape[0]):
        n = 0
        while n < width and outfits[row, n] >= 0:
            n += 1
        low, span = 0.0, 0.0
        if n > 0:
            low = np.float64(scores[row, n - 1])
            span = np.float64(scores[row, 0]) - low
        if not 0 < span < np.inf:
            low, span = 0.0, np.inf  # all alike: relevance says nothing
        for i in range(n):
            relevance[i] = (1 - strength) * ((scores[row, i] - low) / span)
            nearest[i] = -ONE * ONE
            marginal[i] = relevance[i] + strength
            compared[i] = 0
        taken = 0
        place = n
        while taken < k:
            best, best_value = -1, -np.inf
            for i in range(n):
                value = marginal[i]
                if value <= best_value:
                    continue
                while compared[i] < taken and value > best_value:
                    other = outfits[row, chosen[row, compared[i]]]
                    product = _product(directions, outfits[row, i], other)
                    nearest[i] = max(nearest[i], product)
                    value = relevance[i] - weight * nearest[i]
                    compared[i] += 1
                marginal[i] = value
                if value > best_value:
                    best, best_value = i, value
            if best >= 0:
                marginal[best] = -np.inf
            elif place < outfits.shape[1] and outfits[row, place] >= 0:
                best = place
                place += 1
            else:
                break
            broken = _broken(outfits[row, best], caps, item_uses, pattern_uses)
            if broken >= 0:
                skipped[row, broken] += 1
            else:
                _count(outfits[row, best], 1, caps, item_uses, pattern_uses)
                chosen[row, taken] = best
                taken += 1
        for i in range(taken):
            _count(outfits[row, chosen[row, i]], -1, caps, item_uses, pattern_uses)
        chosen[row, taken:] = -1


@numba.njit(nogil=True)
def any_fits(lists: Int64Array, groups: Groups, caps: Caps, fits: BoolArray) -> None:
    """`fits (U,)`: whether an outfit of `groups` could still join each of `lists (U, k)`."""
    item_uses = np.zeros(caps.n_items, np.int32)
    pattern_uses = np.zeros(caps.n_patterns, np.int32)
    for row in range(lists.shape[0]):
        for outfit in lists[row]:
            if outfit >= 0:
                _count(outfit, 1, caps, item_uses, pattern_uses)
        fits[row] = False
        for group in range(len(groups.pattern)):
            if caps.max_per_pattern > 0 and (
                pattern_uses[groups.pattern[group]] >= caps.max_per_pattern
            ):
                continue
            if caps.max_outfits_per_item > 0 and (
                item_uses[groups.item[group]] >= caps.max_outfits_per_item
            ):
                continue
            for outfit in groups.outfits[groups.start[group] : groups.start[group + 1]]:
                broken = _broken(outfit, caps, item_uses, pattern_uses)
                if broken < 0 and not np.any(lists[row] == outfit):
                    fits[row] = True
                    break
            if fits[row]:
                break
        for outfit in lists[row]:
            if outfit >= 0:
                _count(outfit, -1, caps, item_uses, pattern_uses)


@numba.njit(nogil=True)
def _product(directions: Int16Array, a: int, b: int) -> np.int32:
    # Integers have the same sum in any order: one list on every processor, in every batch.
    total = np.int32(0)
    for c in range(directions.shape[1]):
        total = np.int32(total + np.int32(directions[a, c]) * np.int32(directions[b, c]))
    return total


@numba.njit(nogil=True)
def _broken(outfit: int, caps: Caps, item_uses: Int32Array, pattern_uses: Int32Array) -> int:
    """The cap that `outfit` would break, or -1."""
    if caps.max_outfits_per_item > 0:
        for place in range(caps.outfit_items.shape[1]):
            item = caps.outfit_items[outfit, place]
            if item >= 0 and item_uses[item] >= caps.max_outfits_per_item:
                return ITEM_CAP
    if caps.max_per_pattern > 0 and pattern_uses[caps.patterns[outfit]] >= caps.max_per_pattern:
        return PATTERN_CAP
    return -1


@numba.njit(nogil=True)
def _count(
    outfit: int, step: int, caps: Caps, item_uses: Int32Array, pattern_uses: Int32Array
) -> None:
    """Add `step` to the uses of what `outfit` is made of."""
    if caps.max_outfits_per_item > 0:
        for place in range(caps.outfit_items.shape[1]):
            item = caps.outfit_items[outfit, place]
            if item >= 0:
                item_uses[item] += step
    if caps.max_per_pattern > 0:
        pattern_uses[caps.patterns[outfit]] += step
