"""The GPU engine of `top_k`: one fused Triton kernel for product, mask and selection.

No score matrix is written. A block of users meets all outfits in one kernel launch, in float16 on
the tensor cores; scores are compared in registers, and what passes leaves as bit words. The few
hundred candidates of a user are rescored exactly (`triton_search`), so the result equals that of
every other engine to the last bit. Outfits stay on the device, in shards where they do not fit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
import triton  # type: ignore[import-untyped]
from numpy.typing import NDArray

from recjob.errors import RecjobError
from recjob.ranking.exact import EMPTY, Float32Array, Int64Array
from recjob.ranking.triton_kernels import scan_tiles
from recjob.ranking.triton_search import BITS, TILE, Search, Tile
from recjob.ranking.triton_vectors import (
    DeviceOutfits,
    DeviceUsers,
    encode,
    indices_of,
    leaf_order,
    repeat,
    scores_of,
)

USERS_PER_BLOCK: Final = 2**14
"""Users scanned at once: 128 blocks of 128 rows, about the multiprocessors of a large GPU."""
WORDS_BYTES: Final = 2**29
"""Device memory for the candidates of a block of users; large k makes blocks smaller."""
BARRED_BYTES: Final = 2**31
"""Device memory for the bits of excluded pairs: one bit for each pair of a block of users."""
SEEN_PER_BLOCK: Final = 2**22
"""Excluded pairs of a block of users (one user may have more) on their way to the device."""
MEMORY_SHARE: Final = 0.5
"""Of the device's free memory, for outfits; the rest is for users and candidates."""
BYTES_PER_COMPONENT: Final = 6
"""An outfit lies there twice, as float32 and float16."""


def triton_top_k(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    exclude: tuple[NDArray[Any], NDArray[Any]] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    *,
    tile: Tile = TILE,
) -> tuple[Int64Array, Float32Array]:
    """`recjob.ranking.top_k.top_k` on a GPU; see there. The inputs are those it has checked.

    Args:
        users: `(U, d)` float32, finite.
        outfits: `(N, d)` float32, finite.
        k: length of a list, at least 1.
        exclude: CSR `(indptr (U + 1,), indices)` of outfits that a user must not get.
        allowed: `(N,)` bool, outfits that anybody may get.
        tile: shape of the kernel's tiles; changes the speed alone.

    Returns:
        Indices `(U, k)` int64 and scores `(U, k)` float32.

    Raises:
        RecjobError: there is neither a CUDA device nor Triton's interpreter.
    """
    device = compute_device()
    indices = np.full((len(users), k), -1, np.int64)
    scores = np.full((len(users), k), -np.inf, np.float32)
    if not len(users):
        return indices, scores
    step = _outfits_per_shard(outfits.shape[1], device)
    for start in range(0, len(outfits), step):
        mask = None
        if allowed is not None:
            mask = torch.tensor(allowed[start : start + step], device=device)
        shard = DeviceOutfits.of(outfits[start : start + step], mask, tile.columns, device, start)
        if len(shard):
            _add_shard(users, Search(shard, k, tile), exclude, indices, scores)
        del shard  # before the next one comes
    return indices, scores


def compute_device() -> torch.device:
    """The GPU, or the CPU where Triton's interpreter is on.

    Raises:
        RecjobError: there is neither.
    """
    if not isinstance(scan_tiles, triton.JITFunction):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecjobError(
            "the triton engine needs a CUDA device and finds none; choose another engine for the "
            "ranking, or set TRITON_INTERPRET=1 to try it, slowly, on the CPU"
        )
    return torch.device("cuda", torch.cuda.current_device())


def users_per_block(search: Search, has_exclude: bool) -> int:
    """Users whose candidates, and whose excluded pairs' bits, fit into their memory."""
    words = 2 * search.plan.per_split(2) + search.k  # and the keys chosen from them
    rows = min(USERS_PER_BLOCK, WORDS_BYTES // (8 * words))
    if has_exclude:
        rows = min(rows, BARRED_BYTES * BITS // (4 * len(search.outfits.halves)))
    return max(1, rows // search.tile.rows) * search.tile.rows


def _add_shard(
    users: Float32Array,
    search: Search,
    exclude: tuple[NDArray[Any], NDArray[Any]] | None,
    indices: Int64Array,
    scores: Float32Array,
) -> None:
    """Merge the best of one shard of outfits into `indices` and `scores`, in place."""
    device = search.outfits.halves.device
    step, start = users_per_block(search, exclude is not None), 0
    while start < len(users):
        stop, seen = min(len(users), start + step), None
        if exclude is not None:
            indptr, excluded = exclude
            ends = indptr[start + 1 : stop + 1] - indptr[start]
            stop = start + max(1, int(np.searchsorted(ends, SEEN_PER_BLOCK, side="right")))
            lengths = np.diff(indptr[start : stop + 1]).astype(np.int64)
            columns = excluded[indptr[start] : indptr[stop]].astype(np.int64, copy=False)
            seen = (
                repeat(torch.tensor(lengths, device=device)),
                torch.tensor(columns, device=device),
            )
        block = torch.tensor(users[start:stop], device=device)
        keys = search.best(DeviceUsers.of(block, search.outfits, seen))
        # Views of the output: the device writes into them, and the host needs no copy.
        own = torch.from_numpy(indices[start:stop]), torch.from_numpy(scores[start:stop])
        before = encode(own[1].to(device), own[0].to(device))
        before = before.masked_fill(own[0].to(device) < 0, EMPTY)
        merged = torch.cat([before, keys], dim=1).topk(indices.shape[1], dim=1).values
        own[0].copy_(indices_of(merged))
        own[1].copy_(scores_of(merged))
        start = stop


def _outfits_per_shard(width: int, device: torch.device) -> int:
    """Outfits that fit on the device; their places are 32 bits wide."""
    most = 2**31 - 1
    if device.type == "cpu":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    padded = len(leaf_order(width))
    return max(1, min(most, int(free * MEMORY_SHARE) // (BYTES_PER_COMPONENT * padded)))
