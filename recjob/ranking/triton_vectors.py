"""Vectors on the device in two forms, float16 for the scan and float32 for the exact score, and the
hard bound on the difference between the two scores of a pair.

All tensors here are float64 where a proof needs them. Products and norms are in scaled units:
users and outfits are multiplied by powers of two so that no float16 overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from recjob.ranking.exact import EMPTY, Float32Array

MIN_WIDTH: Final = 16
"""Tensor cores multiply blocks of 16; narrower vectors are padded with zeros."""
SAMPLE: Final = 8192
"""Outfits whose scores choose a user's first line. At N = 1 M, k = 100 the line then lets about
600 outfits pass; twice the sample would cost more than the candidates that it saves."""
UPLOAD_BYTES: Final = 32 * 2**20
"""Outfits brought to the device at once."""
ACCUMULATION: Final = 4 * 2.0**-24
"""Error of one step of accumulation, relative to sum |u_i v_i|. Tensor cores align the terms of a
block (4 to 16 products and the running sum) to the largest exponent and truncate, keeping at least
23 bits after the point (Fasi, Higham, Mikaitis and Pranesh, Numerical behavior of NVIDIA tensor
cores, PeerJ CS 2021; Khattak and Mikaitis, Accurate models of NVIDIA tensor cores, 2025, find 24
or more since A100). With blocks of 4 that is at most (4 + 1 + 1) / 4 * 2**-23 for each product,
three times float32's own unit roundoff; 4 leaves room, and holds for any order in true float32."""
SLACK: Final = 1 + 2.0**-20
"""For the rounding of norms and of the bound itself, all computed in float64."""
_SEED: Final = 20240917
_LOW: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class DeviceOutfits:
    """Allowed outfits of a range, in ascending order; a place is an outfit's row here."""

    leaves: Tensor
    """(N, width) float32 as given, in the order of `leaf_order`."""
    halves: Tensor
    """(N rounded up, width) float16, scaled; zeros at the end."""
    numbers: Tensor
    """(N,) int64: the outfit at each place."""
    first: int
    """The outfit that `places` begins with."""
    places: Tensor
    """(range,) int32: the place of each outfit, -1 if it is not allowed."""
    exponent: int
    """A component is its scaled component times 2 ** exponent."""
    norm: float
    """Largest norm, scaled."""
    error: float
    """Largest norm of what float16 rounds off, scaled."""
    sample: Tensor
    """(M,) int64 places, one drawn from each of M equal stretches: the same in every run."""

    @classmethod
    def of(
        cls,
        outfits: Float32Array,
        allowed: Tensor | None,
        multiple: int,
        device: torch.device,
        first: int = 0,
    ) -> DeviceOutfits:
        """The rows of `outfits (R, d)` that `allowed (R,)` leaves; what it bars is not multiplied.

        Args:
            outfits: float32, on the host.
            allowed: bool, on the device; None: all.
            multiple: the rows of `halves` are a multiple of this.
            device: where the tensors live.
            first: number of the first row.
        """
        if allowed is None:
            allowed = torch.ones(len(outfits), dtype=torch.bool, device=device)
        numbers = allowed.nonzero().flatten()
        count = len(numbers)
        order = leaf_order(outfits.shape[1]).to(device)
        leaves = torch.empty((count, len(order)), device=device)
        filled, step = 0, max(1, UPLOAD_BYTES // (4 * outfits.shape[1]))
        for start in range(0, len(outfits), step):
            rows = torch.tensor(outfits[start : start + step], device=device)
            rows = in_leaf_order(rows[allowed[start : start + step]], order)
            leaves[filled : filled + len(rows)] = rows
            filled += len(rows)
        exponent = int(exponents(leaves.abs().max()[None])) if count else 0
        padded = -(-max(count, 1) // multiple) * multiple
        halves = torch.zeros((padded, len(order)), dtype=torch.float16, device=device)
        norm = error = 0.0
        for start in range(0, count, step):
            scaled = leaves[start : start + step].double() * 2.0**-exponent
            half = scaled.half()
            halves[start : start + len(half)] = half
            norm = max(norm, float(scaled.norm(dim=1).max()))
            error = max(error, float((scaled - half.double()).norm(dim=1).max()))
        places = torch.where(allowed, allowed.cumsum(0) - 1, -1).int()
        sample = _stretches(count).to(device)
        numbers = numbers + first
        return cls(leaves, halves, numbers, first, places, exponent, norm, error, sample)

    def __len__(self) -> int:
        return len(self.leaves)


@dataclass(frozen=True)
class DeviceUsers:
    """A block of users on the device, and the pairs that they must not get."""

    leaves: Tensor
    """(R, width) float32 as given, in the order of `leaf_order`."""
    halves: Tensor
    """(R, width) float16, scaled."""
    exponent: Tensor
    """(R,) int64: a score is its scaled score times 2 ** exponent."""
    norm: Tensor
    """(R,) float64, scaled."""
    bound: Tensor
    """(R,) float64: largest difference between a tile's score and the exact one, scaled."""
    seen_rows: Tensor
    """(S,) int32, ascending."""
    seen_places: Tensor
    """(S,) int32: places of the outfits seen."""

    @classmethod
    def of(
        cls, users: Tensor, outfits: DeviceOutfits, seen: tuple[Tensor, Tensor] | None = None
    ) -> DeviceUsers:
        """The users `(R, d)` float32 and, as rows and outfits `(S,)`, what they have seen."""
        leaves = in_leaf_order(users, leaf_order(users.shape[1]).to(users.device))
        exponent = exponents(leaves.abs().amax(dim=1))
        scaled = leaves.double() * powers(-exponent)[:, None]
        halves = scaled.half()
        norm = scaled.norm(dim=1)
        bound = error_bound(norm, (scaled - halves.double()).norm(dim=1), outfits)
        rows = places = torch.empty(0, dtype=torch.int32, device=users.device)
        if seen is not None:
            column = seen[1] - outfits.first
            inside = (column >= 0) & (column < len(outfits.places))
            rows, places = seen[0][inside].int(), outfits.places[column[inside]]
            rows, places = rows[places >= 0], places[places >= 0]
        return cls(leaves, halves, exponent + outfits.exponent, norm, bound, rows, places)

    def take(self, rows: Tensor) -> DeviceUsers:
        """Only the users `rows` (ascending), renumbered from 0."""
        number = torch.full((len(self),), -1, dtype=torch.int32, device=rows.device)
        number[rows] = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        seen_rows = number[self.seen_rows]
        kept = seen_rows >= 0
        return DeviceUsers(
            self.leaves[rows],
            self.halves[rows],
            self.exponent[rows],
            self.norm[rows],
            self.bound[rows],
            seen_rows[kept],
            self.seen_places[kept],
        )

    def __len__(self) -> int:
        return len(self.leaves)

    def highest_behind(self, lines: Tensor) -> Tensor:
        """(R,) float32: no pair whose tile score is below `lines (R,)` has a higher score."""
        return ((lines.double() + self.bound) * powers(self.exponent)).float()

    def lines_for(self, scores: Tensor) -> Tensor:
        """(R,) float32: every pair whose tile score is below scores below `scores (R,)` float32.

        Rounding is monotone: what lies under the next smaller float32 cannot round to more than it.
        """
        lines = below(scores).double() * powers(-self.exponent) - self.bound
        return below(lines.float())


def error_bound(norm: Tensor, error: Tensor, outfits: DeviceOutfits) -> Tensor:
    """(R,) largest difference between a tile's score and the float64 score, scaled units.

    With x, y the scaled vectors and x', y' their float16 forms,
    x'.y' - x.y = x'.(y' - y) + (x' - x).y, at most |x'| |y' - y| + |x' - x| |y|. These errors of
    the inputs are not estimated but measured, at `error (R,)` for the users, which is tighter than
    float16's unit roundoff times the norms and covers its subnormal numbers. (bfloat16 would be no
    faster and round eight times as much; scaled vectors do not need its range.) To this comes the
    accumulation in float32, whose products are exact, and the float64 score's own rounding.
    """
    width = outfits.leaves.shape[1]
    half_norm, half_outfit = norm + error, outfits.norm + outfits.error
    inputs = half_norm * outfits.error + error * outfits.norm
    accumulation = width * (ACCUMULATION + 2.0**-50) * half_norm * half_outfit
    return (inputs + accumulation) * SLACK


def exponents(largest: Tensor) -> Tensor:
    """(R,) int64 e such that `largest (R,)` is below 2 ** e, and at least half of it; 0 for 0."""
    return torch.frexp(largest.double()).exponent.long()


def powers(exponent: Tensor) -> Tensor:
    """2 ** exponent, exact in float64, for exponents of int64 within +-1022."""
    return ((exponent + 1023) << 52).view(torch.float64)


def below(values: Tensor) -> Tensor:
    """The next smaller float32 of each value."""
    return torch.nextafter(values, torch.full_like(values, -torch.inf))


def leaf_order(width: int) -> Tensor:
    """Where each component stands so that halving a power of two sums as `exact.tree_sum` does.

    `(L,)` int64, L a power of two, at least `MIN_WIDTH`; -1 stands for a zero. `tree_sum` leaves
    the middle of an odd width alone; here a zero is added to it.
    """
    widths = [width]
    while widths[-1] > 1:
        widths.append((widths[-1] + 1) // 2)
    order = np.zeros(1, np.int64)
    for rest, whole in zip(widths[:0:-1], widths[-2::-1], strict=True):
        other = order + rest
        order = np.concatenate([order, np.where((order >= 0) & (other < whole), other, -1)])
    padding = np.full(max(0, MIN_WIDTH - len(order)), -1)
    return torch.from_numpy(np.concatenate([order, padding]))


def in_leaf_order(vectors: Tensor, order: Tensor) -> Tensor:
    """`(R, L)` of `vectors (R, d)`, contiguous; where `order (L,)` is -1 they are zero."""
    return vectors[:, order.clamp(min=0)] * (order >= 0)


def encode(scores: Tensor, indices: Tensor) -> Tensor:
    """Keys int64 as `exact.encode` makes them: higher score first, then lower index."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0: they tie
    sortable = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (sortable.long() << 32) | (_LOW - indices)


def scores_of(keys: Tensor) -> Tensor:
    """The float32 scores of `keys`, -inf where one is EMPTY."""
    sortable = (keys >> 32).int()
    scores = (sortable ^ ((sortable >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return scores.masked_fill(keys == EMPTY, -torch.inf)


def indices_of(keys: Tensor) -> Tensor:
    """The indices of `keys`, int64, -1 where one is EMPTY."""
    return (_LOW - (keys & _LOW)).masked_fill(keys == EMPTY, -1)


def repeat(counts: Tensor) -> Tensor:
    """Each index of `counts (R,)` as often as its count says, ascending."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def row_blocks(n_rows: int, rows_per_block: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `rows_per_block` rows."""
    for start in range(0, n_rows, rows_per_block):
        yield start, min(n_rows, start + rows_per_block)


def _stretches(count: int) -> Tensor:
    """(min(count, SAMPLE),) ascending places."""
    size = min(count, SAMPLE)
    draws = np.random.default_rng(_SEED).random(size)
    places = ((np.arange(size) + draws) * (count / max(size, 1))).astype(np.int64)
    return torch.from_numpy(np.minimum(places, max(count - 1, 0)))
