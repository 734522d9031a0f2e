"""Float32 score tiles of a block of users against all outfits, with a hard error bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recjob.ranking.bounds import exponents, fp32_bound, norms, powers
from recjob.ranking.exact import Float32Array, Float64Array, Int64Array

TILE_BYTES: Final = 16 * 2**20
"""A score tile; small enough that selection finds most of it in the cache."""
OUTFIT_BYTES: Final = 16 * 2**20
"""A block of outfit vectors."""


@contextmanager
def ieee_products() -> Iterator[None]:
    """Float32 matrix products in true float32, whatever precision the process allows."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


@dataclass(frozen=True)
class UserRows:
    """A block of users, scaled by powers of two so that no product over- or underflows."""

    vectors: Float32Array
    """(R, d) as given."""
    tile_vectors: Float32Array
    """(R, d) scaled."""
    exponent: NDArray[np.int64]
    """(R,) score = scaled score times 2 ** exponent."""
    norm: Float64Array
    """(R,) of the scaled vectors."""
    bound: Float64Array
    """(R,) largest difference between a tile's score and the exact scaled score."""

    @classmethod
    def of(cls, vectors: Float32Array, scan: OutfitScan) -> UserRows:
        """The users `vectors (R, d)`, to be scored against `scan`."""
        exponent = exponents(np.maximum(vectors.max(axis=1), -vectors.min(axis=1)))
        scaled = vectors * powers(-exponent)[:, None]
        norm = norms(scaled)
        return cls(
            vectors,
            scaled,
            exponent + scan.exponent,
            norm,
            fp32_bound(norm, scan.norm, vectors.shape[1]),
        )

    def take(self, rows: Int64Array) -> UserRows:
        """Only the users `rows`."""
        return UserRows(
            self.vectors[rows],
            self.tile_vectors[rows],
            self.exponent[rows],
            self.norm[rows],
            self.bound[rows],
        )

    def unscaled(self, scores: Float64Array) -> Float64Array:
        """Scores `(R,)` in the units of the inputs."""
        result: Float64Array = np.ldexp(scores, self.exponent)
        return result

    def scaled(self, scores: Float32Array) -> Float64Array:
        """Scores `(R,)` in the units of the tiles."""
        result: Float64Array = np.ldexp(scores.astype(np.float64), -self.exponent)
        return result


class OutfitScan:
    """Streams the allowed outfits past blocks of users, in ascending order of index."""

    def __init__(
        self, outfits: Float32Array, allowed: NDArray[np.bool_] | None, max_rows: int
    ) -> None:
        self.outfits = outfits
        self._allowed = allowed
        width = outfits.shape[1]
        columns = min(TILE_BYTES // (4 * max_rows), OUTFIT_BYTES // (4 * width))
        self._columns = max(1, min(columns, len(outfits)))
        self._tile = torch.empty(max_rows * self._columns)
        self._block = np.empty((self._columns, width), np.float32)
        largest = np.float32(0)
        for start, stop in self._ranges():
            largest = max(largest, np.abs(outfits[start:stop]).max())
        self.exponent = int(exponents(np.array([largest], np.float32))[0])
        self._scale = powers(np.array([-self.exponent]))[0]
        self.norm = 0.0
        """Largest norm of a scaled outfit."""
        for start, stop in self._ranges():
            self.norm = max(self.norm, norms(outfits[start:stop] * self._scale).max())

    def tiles(
        self, rows: UserRows, seen: tuple[NDArray[Any], NDArray[Any]] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Score tiles `(R, C)` and the outfit of each column `(C,)` int64, ascending.

        The pairs `seen` (rows, outfits) are -inf. A tile is valid until the next one.
        """
        users = torch.from_numpy(rows.tile_vectors)
        if seen is not None:
            order = np.argsort(seen[1], kind="stable")
            seen = seen[0][order], seen[1][order]
        for start, stop in self._ranges():
            chosen = (
                np.arange(stop - start)
                if self._allowed is None
                else np.flatnonzero(self._allowed[start:stop])
            )
            if not len(chosen):
                continue
            block = self._block[: len(chosen)]
            source = self.outfits[start:stop]
            if len(chosen) < stop - start:
                source = source[chosen]
            np.multiply(source, self._scale, out=block)
            tile = self._tile[: len(users) * len(chosen)].view(len(users), len(chosen))
            torch.mm(users, torch.from_numpy(block).T, out=tile)
            if seen is not None:
                first, last = np.searchsorted(seen[1], (start, stop))
                place = np.full(stop - start, -1, np.int64)
                place[chosen] = np.arange(len(chosen))
                column = place[seen[1][first:last] - start]
                inside = column >= 0
                tile[
                    torch.from_numpy(seen[0][first:last][inside].astype(np.int64)),
                    torch.from_numpy(column[inside]),
                ] = -torch.inf
            yield tile, torch.from_numpy(chosen + start)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        for start in range(0, len(self.outfits), self._columns):
            yield start, min(len(self.outfits), start + self._columns)
