"""How far an approximate product can lie from the exact score: hard bounds, never estimates.

Vectors are scaled by powers of two first (`exponents`, `powers`): exact, and then no product
over- or underflows. All bounds are in the units of the scaled vectors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.ranking.exact import Float32Array, Float64Array

MAX_EXPONENT: Final = 126
"""Powers of two up to this, and down to its negative, are normal float32 numbers."""
FP32_ROUNDOFF: Final = 2.0**-24
"""Largest relative error of rounding to float32."""
BF16_ROUNDOFF: Final = 2.0**-9
"""Largest relative error of rounding to bf16, to nearest."""
BF16_OUTPUT: Final = BF16_ROUNDOFF * (1 + 2.0**-8)
"""|bf16(v) - v| <= BF16_OUTPUT |bf16(v)|: the rounding of a bf16 product seen from its result."""
FLOAT64_SLACK: Final = 2.0**-50
"""Per element and relative: the rounding of the float64 score itself, of the norms, and of the
few operations on thresholds; 2 ** -53 each, and eight times that."""
UNDERFLOW: Final = 2.0**-122
"""Per element of a product of scaled vectors: denormals may be flushed to zero, in an input
(2 ** -126, times at most 4, the largest scaled element, from either side) or in a sum."""


def exponents(largest: Float32Array) -> NDArray[np.int64]:
    """(R,) e with `largest` about 2 ** e, within what `powers` can express."""
    return np.clip(np.frexp(largest)[1], -MAX_EXPONENT, MAX_EXPONENT).astype(np.int64)


def powers(exponent: NDArray[np.int64]) -> Float32Array:
    """2 ** exponent, exact in float32."""
    result: Float32Array = np.ldexp(np.float32(1), exponent).astype(np.float32)
    return result


def norms(vectors: Float32Array) -> Float64Array:
    """Euclidean lengths `(R,)` of `(R, d)`, in float64."""
    result: Float64Array = np.sqrt(np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64))
    return result


def fp32_bound(user_norm: Float64Array, outfit_norm: float, width: int) -> Float64Array:
    """(R,) largest difference between a float32 product and the float64 score.

    |fl(x.y) - x.y| <= d u / (1 - d u) sum |x_i y_i| for any order of summation (Higham, Accuracy
    and Stability of Numerical Algorithms, Sec. 3.1), and the sum is at most |x| |y|.
    """
    relative = _accumulation(width, FP32_ROUNDOFF) + width * FLOAT64_SLACK
    result: Float64Array = relative * user_norm * outfit_norm + _underflow(user_norm, width)
    return result


def bf16_bound(
    user_norm: Float64Array,
    user_error: Float64Array,
    outfit_norm: float,
    outfit_error: float,
    width: int,
) -> Float64Array:
    """(R,) largest difference between the sum inside a bf16 product and the float64 score.

    With x', y' the vectors rounded to bf16: |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|, where
    the norms of the differences are measured (`user_error`, `outfit_error`), about half of what
    the format allows. Products are summed in float32, by some hardware with twice the rounding
    of one addition. The rounding of the result to bf16 is not in it: see BF16_OUTPUT.
    """
    rounded_user, rounded_outfit = user_norm + user_error, outfit_norm + outfit_error
    inputs = user_error * outfit_norm + rounded_user * outfit_error
    accumulation = _accumulation(width, 2 * FP32_ROUNDOFF) + width * FLOAT64_SLACK
    result: Float64Array = (
        inputs * (1 + width * FLOAT64_SLACK)
        + accumulation * rounded_user * rounded_outfit
        + _underflow(user_norm, width)
    )
    return result


def _accumulation(width: int, roundoff: float) -> float:
    return width * roundoff / (1 - width * roundoff)


def _underflow(user_norm: Float64Array, width: int) -> Float64Array:
    """A zero vector has no error at all."""
    return np.where(user_norm > 0, width * UNDERFLOW, 0.0)
