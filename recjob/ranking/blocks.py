"""Blocks of users of bounded memory, and the outfits that each user must not get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SEEN_PER_BLOCK: Final = 2**20
"""Excluded pairs of the users at work (one user may have more): they are sorted, in memory."""


@dataclass(frozen=True)
class Exclusions:
    """CSR lists of outfits per user."""

    indptr: NDArray[Any]
    indices: NDArray[Any]

    def of(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Row (from 0) and outfit of every excluded pair of users `start` to `stop`."""
        lengths = np.diff(self.indptr[start : stop + 1])
        rows = np.repeat(np.arange(stop - start, dtype=np.int32), lengths)
        return rows, self.indices[self.indptr[start] : self.indptr[stop]]


def user_blocks(
    n_users: int, rows_per_block: int, exclusions: Exclusions | None, workers: int = 1
) -> Iterator[tuple[int, int]]:
    """Ranges of users of bounded length and, but for single users, of bounded exclusions.

    The bound is for all `workers` together, who have a block each at a time.
    """
    most_seen = SEEN_PER_BLOCK // workers
    start = 0
    while start < n_users:
        stop = min(n_users, start + rows_per_block)
        if exclusions is not None:
            ends = exclusions.indptr[start + 1 : stop + 1] - exclusions.indptr[start]
            stop = start + max(1, int(np.searchsorted(ends, most_seen, side="right")))
        yield start, stop
        start = stop
