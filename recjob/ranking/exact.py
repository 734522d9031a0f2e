"""The score of a pair, exactly reproducible, and the one total order of candidates."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
Keys = NDArray[np.int64]

EMPTY: Final = np.iinfo(np.int64).min
"""The key of an empty place: below the key of every pair."""
PAIR_BYTES: Final = 32 * 2**20
"""Working memory of `pair_scores`; larger requests are cut into chunks."""
MAX_OUTFITS: Final = 2**32 - 1
"""Indices that fit into the lower half of a key."""
_LOW: Final = np.int64(0xFFFFFFFF)


def pair_scores(
    users: Float32Array, outfits: Float32Array, rows: NDArray[Any], columns: NDArray[Any]
) -> Float32Array:
    """Inner products of `users[rows]` and `outfits[columns]`, `(P,)`.

    Products are accumulated in float64 in a fixed tree order (so a pair has the same score in
    whatever batch, block or order it is asked for) and rounded to float32.
    """
    scores = np.empty(len(rows), np.float32)
    chunk = max(1, PAIR_BYTES // (4 * 8 * users.shape[1]))
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        products = users[rows[part]].astype(np.float64)
        products *= outfits[columns[part]]
        with np.errstate(over="ignore"):  # beyond float32 a score is infinite, as documented
            scores[part] = tree_sum(products)
    return scores


def tree_sum(terms: Float64Array) -> Float64Array:
    """Sums `(P,)` over the last axis of `terms (P, d)`, pairwise; overwrites `terms`."""
    width = terms.shape[1]
    while width > 1:
        half = width // 2
        rest = width - half
        terms[:, :half] += terms[:, rest:width]
        width = rest
    return terms[:, 0]


def encode(scores: Float32Array, indices: NDArray[Any]) -> Keys:
    """Keys whose order is: higher score first, then lower index. Shapes are kept.

    The upper half is the float32's bits made sortable, the lower half the index, downwards.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0: they tie
    sortable = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    keys: Keys = (sortable << 32) | (_LOW - indices)
    return keys


def decode(keys: Keys) -> tuple[Int64Array, Float32Array]:
    """Indices and scores of `keys`; an EMPTY key gives -1 and -inf."""
    empty = keys == EMPTY
    indices = np.where(empty, -1, _LOW - (keys & _LOW))
    sortable = (keys >> 32).astype(np.int32)
    scores = (sortable ^ ((sortable >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return indices, np.where(empty, np.float32(-np.inf), scores)


def best(keys: Keys, k: int) -> Keys:
    """The `k` largest of each row of `keys (R, C)`, largest first, `(R, k)`; C >= k."""
    if keys.shape[1] > k:
        keys = np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]
    return np.sort(keys, axis=1)[:, ::-1]
