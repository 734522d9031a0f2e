"""Compiled passes over the outfits: their size, and the blocks that are multiplied (numba)."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recjob.ranking.exact import Float32Array, Int64Array
from recjob.ranking.lanes import fetch_row, float_bits, float_of

AHEAD: Final = 8
"""Rows fetched before they are needed."""
SIGN: Final = 0x7FFFFFFF
"""All bits of a float32 but its sign."""
_HALF: Final = np.int32(0x7FFF)
_UPPER: Final = np.int32(-0x10000)


@njit(nogil=True)
def fill_bf16(
    outfits: Float32Array,
    positions: Int64Array,
    first: int,
    step: int,
    scale: Any,
    block: NDArray[np.int16],
    columns: Int64Array,
) -> None:
    """Put the scaled outfits `positions[first::step]` into `block (C, d)`, rounded to bf16.

    `columns (C,)` gets their indices, -1 behind the last, where the block is zero.
    """
    count = 0
    for place in range(first, len(positions), step):
        row = positions[place]
        if place + AHEAD * step < len(positions):
            fetch_row(outfits, positions[place + AHEAD * step])
        for i in range(outfits.shape[1]):
            bits = float_bits(outfits[row, i] * scale)
            # To nearest, ties to even: half a unit of the 16 bits that stay, less one if even.
            block[count, i] = np.int16((bits + _HALF + ((bits >> 16) & 1)) >> 16)
        columns[count] = row
        count += 1
    block[count:] = 0
    columns[count:] = -1


@njit(nogil=True)
def fill_fp32(
    outfits: Float32Array,
    positions: Int64Array,
    first: int,
    step: int,
    scale: Any,
    block: Float32Array,
    columns: Int64Array,
) -> None:
    """As `fill_bf16`, without rounding."""
    count = 0
    for place in range(first, len(positions), step):
        row = positions[place]
        if place + AHEAD * step < len(positions):
            fetch_row(outfits, positions[place + AHEAD * step])
        for i in range(outfits.shape[1]):
            block[count, i] = outfits[row, i] * scale
        columns[count] = row
        count += 1
    block[count:] = 0
    columns[count:] = -1


@njit(nogil=True)
def largest_value(outfits: Float32Array) -> Any:
    """Largest absolute value."""
    largest = np.int32(0)
    for row in range(len(outfits)):
        for i in range(outfits.shape[1]):
            # Without the sign, floats are in the order of their bits.
            largest = max(largest, np.int32(float_bits(outfits[row, i]) & SIGN))
    return float_of(np.int32(largest))


@njit(nogil=True, fastmath={"reassoc"})
def largest_norms(outfits: Float32Array, scale: Any) -> tuple[float, float]:
    """Largest norm of the scaled outfits, and of what bf16 takes away from one."""
    norm = 0.0
    error = 0.0
    for row in range(len(outfits)):
        norm_row = 0.0
        error_row = 0.0
        for i in range(outfits.shape[1]):
            value = outfits[row, i] * scale
            bits = float_bits(value)
            rounded = (bits + _HALF + ((bits >> 16) & 1)) & _UPPER
            lost = value - float_of(np.int32(rounded))
            norm_row += np.float64(value) * np.float64(value)
            error_row += np.float64(lost) * np.float64(lost)
        norm = max(norm, norm_row)
        error = max(error, error_row)
    return math.sqrt(norm), math.sqrt(error)
