"""Exact K best inner products in plain torch, where nothing is compiled.

One pass in float32 finds candidates: the k best and a few more. The rounding error of that pass
has a hard bound, so after rescoring the candidates in float64 it is proved, user by user, that
nothing left behind can belong to the k best. Where the bound does not settle it (ties, duplicates,
zero vectors), `repair` rescores everything inside the band.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from recjob.ranking.blocks import Exclusions, user_blocks
from recjob.ranking.exact import (
    EMPTY,
    Float32Array,
    Int64Array,
    Keys,
    best,
    decode,
    encode,
    pair_scores,
)
from recjob.ranking.scan import OutfitScan, UserRows, ieee_products

USERS_PER_BLOCK: Final = 256
"""Rows of a score tile: enough for the matrix product to run at full speed."""
STATE_BYTES: Final = 48 * 2**20
"""Memory for the running candidates of a block of users; large k makes blocks smaller."""
REPAIR_ROWS: Final = 64
"""Users repaired at once."""
MIN_MARGIN: Final = 16
"""Candidates kept beyond k. For 1 M unit vectors of width 128 the band around the 20th score
holds far less than one candidate; the margin pays for duplicates and near-duplicates."""
MARGIN_SHARE: Final = 1 / 32
"""Margin relative to k: scores lie closer together further down the list."""


def torch_top_k(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    exclusions: Exclusions | None,
    allowed: NDArray[np.bool_] | None,
) -> tuple[Int64Array, Float32Array]:
    """`top_k` (see there) on checked input with at least one user and one outfit."""
    n_users, n_outfits = len(users), len(outfits)
    indices = np.full((n_users, k), -1, np.int64)
    scores = np.full((n_users, k), -np.inf, np.float32)
    depth = min(k, n_outfits)
    kept = min(n_outfits, depth + max(MIN_MARGIN, int(depth * MARGIN_SHARE)))
    rows_per_block = max(1, min(USERS_PER_BLOCK, STATE_BYTES // (64 * kept)))
    scan = OutfitScan(outfits, allowed, rows_per_block)
    with ieee_products():
        for start, stop in user_blocks(n_users, rows_per_block, exclusions):
            rows = UserRows.of(users[start:stop], scan)
            seen = None if exclusions is None else exclusions.of(start, stop)
            keys = _block_top_k(rows, scan, seen, depth, kept)
            indices[start:stop, :depth], scores[start:stop, :depth] = decode(keys)
    return indices, scores


def _block_top_k(
    rows: UserRows,
    scan: OutfitScan,
    seen: tuple[NDArray[Any], NDArray[Any]] | None,
    k: int,
    kept: int,
) -> Keys:
    """Keys `(R, k)` of a block of users, best first."""
    n_rows = len(rows.vectors)
    best_values = torch.full((n_rows, kept), -torch.inf)
    best_columns = torch.full((n_rows, kept), -1, dtype=torch.int64)
    for tile, columns in scan.tiles(rows, seen):
        values, places = tile.topk(min(kept, tile.shape[1]), dim=1)
        values = torch.cat([best_values, values], dim=1)
        found = torch.cat([best_columns, columns[places]], dim=1)
        best_values, order = values.topk(kept, dim=1)
        best_columns = found.gather(1, order)
    approximate, candidates = best_values.numpy(), best_columns.numpy()
    keys = np.full(approximate.shape, EMPTY, np.int64)
    real = np.isfinite(approximate)
    pair_rows, places_ = np.nonzero(real)
    found_ = candidates[real]
    keys[pair_rows, places_] = encode(
        pair_scores(rows.vectors, scan.outfits, pair_rows, found_), found_
    )
    keys = best(keys, k)
    # All that was left behind scores at most the last kept score plus the bound. Rounding is
    # monotone: if that limit, rounded, is below the k-th rounded score, so is everything behind.
    with np.errstate(over="ignore"):
        limit = rows.unscaled(approximate[:, -1] + rows.bound).astype(np.float32)
    kth = decode(keys[:, -1])[1]
    unsettled = np.flatnonzero(real[:, -1] & ~(limit < kth) & (kept < len(scan.outfits)))
    for start in range(0, len(unsettled), REPAIR_ROWS):
        part = unsettled[start : start + REPAIR_ROWS]
        keys[part] = _repair(rows.take(part), scan, _take(seen, part, n_rows), kth[part], k)
    return keys


def _repair(
    rows: UserRows,
    scan: OutfitScan,
    seen: tuple[NDArray[Any], NDArray[Any]] | None,
    kth: Float32Array,
    k: int,
) -> Keys:
    """Keys `(R, k)` after rescoring every pair that may reach the score `kth (R,)`."""
    keys = np.full((len(rows.vectors), k), EMPTY, np.int64)
    for tile, columns in scan.tiles(rows, seen):
        # A pair below this line scores, exactly and rounded, below a k-th place already found.
        with np.errstate(over="ignore"):
            line = rows.scaled(_below(kth)) - rows.bound
            line_down = _below(line.astype(np.float32))
        # A zero vector scores zero everywhere: once its list is full, no later index can win.
        line_down[(rows.norm == 0) & (keys[:, -1] != EMPTY)] = np.inf
        # A masked place is -inf and never passes, even where the line itself is -inf.
        passing = (tile >= torch.from_numpy(line_down)[:, None]) & (tile > -torch.inf)
        pair_rows, places = (x.numpy() for x in passing.nonzero(as_tuple=True))
        if not len(pair_rows):
            continue
        found = columns.numpy()[places]
        values = np.zeros(len(found), np.float32)
        live = rows.norm[pair_rows] > 0  # a zero vector scores zero everywhere
        values[live] = pair_scores(rows.vectors, scan.outfits, pair_rows[live], found[live])
        width = tile.shape[1]
        merged = np.full((len(keys), k + width), EMPTY, np.int64)
        merged[:, :k] = keys
        merged[pair_rows, k + places] = encode(values, found)
        keys = best(merged, k)
        kth = np.maximum(kth, decode(keys[:, -1])[1])
    return keys


def _below(values: Float32Array) -> Float32Array:
    """The next smaller float32 of each value."""
    result: Float32Array = np.nextafter(values, np.float32(-np.inf))
    return result


def _take(
    seen: tuple[NDArray[Any], NDArray[Any]] | None, part: Int64Array, n_rows: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The excluded pairs of the rows `part`, renumbered from 0."""
    if seen is None:
        return None
    place = np.full(n_rows, -1, np.int32)
    place[part] = np.arange(len(part))
    mine = place[seen[0]]
    return mine[mine >= 0], seen[1][mine >= 0]
