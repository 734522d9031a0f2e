"""Exact K best inner products: matrix product, one compiled selection pass, exact rescoring.

Tiles of scores (a block of users, some hundred outfits) are computed in bf16 or float32 into a
buffer that is used again, so they stay in the cache until `kernels.scan` has read them. Threads
of Python take one block of users each; the products and the kernels run without the GIL.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recjob.ranking import kernels, outfit_kernels
from recjob.ranking.blocks import Exclusions, user_blocks
from recjob.ranking.bounds import (
    BF16_OUTPUT,
    bf16_bound,
    exponents,
    fp32_bound,
    norms,
    powers,
)
from recjob.ranking.exact import MAX_OUTFITS, Float32Array, Float64Array, Int64Array
from recjob.ranking.scan import ieee_products

Precision = Literal["bf16", "fp32"]

USERS_PER_BLOCK: Final = 2048
"""Rows of a tile: what it takes to fill the tile with outfits is paid once for so many users."""
OUTFITS_PER_TILE: Final = 512
"""Columns of a tile, a multiple of `lanes.LANES`. 2048 x 512 in bf16 are 2 MiB."""
WORK_BYTES: Final = 128 * 2**20
"""Working memory of all threads; more threads or a larger k make blocks of users smaller."""
MIN_ROOM: Final = 256
"""Places in a user's list of candidates."""
ROOM_PER_K: Final = 4
"""Places relative to k: a full list keeps a quarter or little more."""
OUTFITS_PER_CHUNK: Final = 2**20
"""Outfits whose order is planned at once."""
_NORM_ROWS: Final = 2**14
_NO_SEEN: Final = np.zeros(0, np.int64)


def compiled_top_k(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    exclusions: Exclusions | None,
    allowed: NDArray[np.bool_] | None,
    precision: Precision,
) -> tuple[Int64Array, Float32Array]:
    """`top_k` (see there) on checked, contiguous input with at least one user and one outfit."""
    n_users = len(users)
    indices = np.full((n_users, k), -1, np.int64)
    scores = np.full((n_users, k), -np.inf, np.float32)
    workers = torch.get_num_threads()
    with _one_thread_per_product(), ieee_products(), ThreadPoolExecutor(workers) as pool:
        catalog = _Catalog.of(outfits, allowed, precision, pool)
        rows = _rows_per_block(n_users, min(k, len(outfits)), users.shape[1], workers)
        room = threading.local()

        def fill(block: tuple[int, int]) -> None:
            start, stop = block
            if not hasattr(room, "work"):
                room.work = _Work(rows, min(k, len(outfits)), catalog)
            seen = None if exclusions is None else exclusions.of(start, stop)
            room.work.run(users[start:stop], seen, indices[start:stop], scores[start:stop])

        try:
            for _ in pool.map(fill, user_blocks(n_users, rows, exclusions, workers)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    return indices, scores


@dataclass(frozen=True)
class _Catalog:
    """The outfits, and what all blocks of users need to know of them."""

    outfits: Float32Array
    allowed: NDArray[np.bool_] | None
    precision: Precision
    exponent: int
    """An outfit's scaled vector is 2 ** -exponent times the one given."""
    norm: float
    """Largest of a scaled outfit."""
    error: float
    """Largest norm of what rounding to bf16 takes from a scaled outfit."""

    @classmethod
    def of(
        cls,
        outfits: Float32Array,
        allowed: NDArray[np.bool_] | None,
        precision: Precision,
        pool: ThreadPoolExecutor,
    ) -> _Catalog:
        outfits = _read_only(outfits)
        parts = [
            outfits[start : start + _NORM_ROWS] for start in range(0, len(outfits), _NORM_ROWS)
        ]
        largest = np.array([max(pool.map(outfit_kernels.largest_value, parts))], np.float32)
        exponent = int(exponents(largest)[0])
        scale = powers(np.array([-exponent]))[0]
        found = list(pool.map(outfit_kernels.largest_norms, parts, itertools.repeat(scale)))
        norm, error = (float(x) for x in np.max(found, axis=0))
        return cls(outfits, allowed, precision, exponent, norm, error)

    @property
    def scale(self) -> np.float32:
        scale: np.float32 = powers(np.array([-self.exponent]))[0]
        return scale

    def plans(self) -> Iterator[tuple[Int64Array, int]]:
        """Allowed outfits, and into how many tiles to deal them out like cards.

        So every tile is a sample of its chunk, and thresholds are good from the first tile on,
        even where neighbours in the catalog are alike or the best outfits come last.
        """
        for start in range(0, len(self.outfits), OUTFITS_PER_CHUNK):
            stop = min(len(self.outfits), start + OUTFITS_PER_CHUNK)
            positions = (
                np.arange(start, stop)
                if self.allowed is None
                else start + np.flatnonzero(self.allowed[start:stop])
            )
            if len(positions):
                yield positions, -(-len(positions) // OUTFITS_PER_TILE)


class _Work:
    """The buffers of one thread."""

    def __init__(self, rows: int, k: int, catalog: _Catalog) -> None:
        self._k = k
        self._catalog = catalog
        width = catalog.outfits.shape[1]
        bits = np.int16 if catalog.precision == "bf16" else np.int32
        values = np.int16 if catalog.precision == "bf16" else np.float32
        self._tile = np.zeros(rows * OUTFITS_PER_TILE, bits)
        self._block = np.zeros((OUTFITS_PER_TILE, width), values)
        self._columns = np.zeros(OUTFITS_PER_TILE, np.int64)
        self._keys = np.zeros((rows, room_for(k)), np.int64)

    def run(
        self,
        users: Float32Array,
        seen: tuple[NDArray[Any], NDArray[Any]] | None,
        indices: Int64Array,
        scores: Float32Array,
    ) -> None:
        """Fill in the lists of a block of users."""
        catalog = self._catalog
        bf16 = catalog.precision == "bf16"
        exponent = exponents(np.maximum(users.max(axis=1), -users.min(axis=1)))
        scaled = users * powers(-exponent)[:, None]
        product = torch.from_numpy(scaled)
        norm = norms(scaled)
        if bf16:
            product = product.bfloat16()
            slack = bf16_bound(
                norm,
                norms(scaled - product.float().numpy()),
                catalog.norm,
                catalog.error,
                users.shape[1],
            )
        else:
            slack = fp32_bound(norm, catalog.norm, users.shape[1])
        lists = self._lists(users, seen, exponent, norm, slack)
        size = len(users) * OUTFITS_PER_TILE
        tile = self._tile[:size]
        format_ = torch.bfloat16 if bf16 else torch.float32
        block = torch.from_numpy(self._block).view(format_)
        out = torch.from_numpy(tile).view(format_).view(len(users), -1)
        fill = outfit_kernels.fill_bf16 if bf16 else outfit_kernels.fill_fp32
        for positions, tiles in catalog.plans():
            for first in range(tiles):
                fill(
                    catalog.outfits,
                    positions,
                    first,
                    tiles,
                    catalog.scale,
                    self._block,
                    self._columns,
                )
                torch.mm(product, block.T, out=out)
                kernels.scan(lists, tile, self._columns)
        allowed = np.zeros(0, np.bool_) if catalog.allowed is None else catalog.allowed
        kernels.finish(lists, _read_only(allowed), indices, scores)

    def _lists(
        self,
        users: Float32Array,
        seen: tuple[NDArray[Any], NDArray[Any]] | None,
        exponent: Int64Array,
        norm: Float64Array,
        slack: Float64Array,
    ) -> kernels.Lists:
        bf16 = self._catalog.precision == "bf16"
        n_users = len(users)
        starts, outfits = np.zeros(n_users + 1, np.int64), _NO_SEEN
        if seen is not None:
            pairs = (seen[0].astype(np.int64) << 32) | seen[1].astype(np.int64)
            pairs.sort()
            outfits = pairs & MAX_OUTFITS
            np.cumsum(np.bincount(seen[0], minlength=n_users), out=starts[1:])
        shift = 16 if bf16 else 0
        thresholds = np.where(norm > 0, kernels.EVERYTHING >> shift, kernels.NOTHING >> shift)
        return kernels.Lists(
            k=self._k,
            shift=shift,
            rounding=BF16_OUTPUT if bf16 else 0.0,
            users=_read_only(users),
            outfits=self._catalog.outfits,
            exponents=exponent + self._catalog.exponent,
            slack=slack,
            thresholds=thresholds.astype(np.int32),
            counts=np.zeros(n_users, np.int64),
            settled=np.zeros(n_users, np.int64),
            keys=self._keys[:n_users],
            seen_starts=starts,
            seen=outfits,
        )


def room_for(k: int) -> int:
    """Places in a user's list of candidates."""
    return max(MIN_ROOM, ROOM_PER_K * k)


def _rows_per_block(n_users: int, k: int, width: int, workers: int) -> int:
    """Users of a block: as many as memory allows, and equal shares for the workers."""
    # Scores, candidates, and the user's vector: as given, scaled, rounded, and back.
    bytes_per_user = 4 * OUTFITS_PER_TILE + 8 * room_for(k) + 16 * width
    most = max(1, min(USERS_PER_BLOCK, WORK_BYTES // workers // bytes_per_user))
    blocks = -(-n_users // most)
    return -(-n_users // (-(-blocks // workers) * workers))


@contextmanager
def _one_thread_per_product() -> Iterator[None]:
    """Products in one thread each: the blocks of users run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """The same memory with one type for all callers, so kernels are compiled once."""
    view = values.view()
    view.flags.writeable = False
    return view
