"""Exact K best of a block of users on the device: lines, scan, exact rescoring, proof, repair.

A line is the least tile score that makes a pair a candidate. The first line of a user comes from a
sample of outfits; one scan writes the pairs above it, and these are rescored exactly. What stayed
below the line cannot exceed the line plus the rounding bound: where that is below the k-th exact
score, the list is proved. Otherwise the k-th score found, less the bound, is the next line; a user
whose places overflow again and again is scanned in pieces so short that they cannot overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from recjob.ranking.exact import EMPTY
from recjob.ranking.triton_kernels import WORD_BITS, bar_pairs, list_bits, scan_tiles, score_pairs
from recjob.ranking.triton_vectors import (
    DeviceOutfits,
    DeviceUsers,
    encode,
    repeat,
    row_blocks,
    scores_of,
)

BITS: Final[int] = WORD_BITS.value
MISSES: Final = 1e-3
"""Share of users whose first line may turn out to be above their k-th score."""
DEVIATIONS: Final = 6
"""Places for candidates: this many standard deviations more than expected."""
SPARE_WORDS: Final = 8
"""And this many more for a program that expects next to none; at least the words of a tile."""
SCANS: Final = 3
"""Scans of all outfits before a user is scanned in pieces: the first line, the line from the
scores found, and once more for those whose second line was still too low to fit."""
PROGRAMS_PER_PROCESSOR: Final = 2
"""What fits on a multiprocessor at once; one wave of programs shares the same tiles of outfits."""
PAIRS: Final = 2**25
"""Places of candidates sorted at once (256 MiB of keys)."""
MAX_CHUNK: Final = 128
"""Components multiplied at once; wider vectors are added up in pieces of `WIDE_CHUNK`."""
WIDE_CHUNK: Final = 64
LARGE_MEAN: Final = 200.0
"""A Poisson number of at least this mean is taken for normal: its terms would underflow."""
NORMAL_QUANTILE: Final = 3.3
"""Of the standard normal distribution; beyond lies less than `MISSES`."""
PAIR_BLOCK: Final = 32
"""Pairs scored by a program: 128 float64 products of each fill the registers of four warps."""
WORD_BLOCK: Final = 256
"""Words listed by a program."""
BAR_BLOCK: Final = 1024
"""Pairs barred by a program."""


@dataclass(frozen=True)
class Tile:
    """Shape of a score tile and how a program computes it. It changes the speed, not the result."""

    rows: int
    columns: int
    warps: int
    stages: int


TILE: Final = Tile(rows=128, columns=128, warps=8, stages=2)
"""Two programs of this shape fit on a multiprocessor of Hopper (100 KiB of shared memory and 110
registers a thread, as compiled), so that one can multiply while the other selects; on Ampere one
(162 registers). Chosen from compiled code; `recjob.bench.gpu --tiles` times this and others."""


@dataclass(frozen=True)
class Plan:
    """How many candidates to expect of a user, and where they go."""

    rank: int
    """The line is the sample's score of this rank, from 1."""
    words: int
    """Places of a user over all splits: a word holds a candidate, or several neighbours."""

    @classmethod
    def of(cls, k: int, n_outfits: int, n_sampled: int) -> Plan:
        """For lists of length `k`; a rank beyond `n_sampled` means that every outfit is rescored.

        Of the k best, a Poisson number with mean k * sampled / outfits is in the sample. The rank
        is the first that this number reaches with probability `MISSES` at most.
        """
        rank = _rare_count(k * n_sampled / n_outfits)
        if rank > n_sampled:
            return cls(rank, _words(n_outfits))
        step = n_outfits / n_sampled
        expected = step * (rank + DEVIATIONS * math.sqrt(rank))
        return cls(rank, min(_words(n_outfits), math.ceil(expected)))

    def per_split(self, splits: int) -> int:
        """Places of a user in each of `splits`, with room for an uneven distribution."""
        mean = self.words / splits
        return math.ceil(mean + DEVIATIONS * math.sqrt(mean) + SPARE_WORDS)


class Search:
    """The exact `k` best of any block of users among `outfits`."""

    def __init__(self, outfits: DeviceOutfits, k: int, tile: Tile = TILE) -> None:
        self.outfits, self.tile = outfits, tile
        self.k = min(k, len(outfits))
        self.plan = Plan.of(self.k, len(outfits), len(outfits.sample))
        self._tiles = len(outfits.halves) // tile.columns
        self._sampled = outfits.halves[outfits.sample]
        self._in_sample = torch.full((len(outfits),), -1, device=outfits.halves.device)
        self._in_sample[outfits.sample] = torch.arange(len(outfits.sample), device=_of(outfits))
        self._width = outfits.halves.shape[1]

    def best(self, users: DeviceUsers) -> Tensor:
        """Keys `(R, min(k, N))` int64 of every user, best first; EMPTY where there are no more."""
        keys = torch.full((len(users), self.k), EMPTY, device=_of(self.outfits))
        lines = self._first_lines(users)
        open_rows, left = torch.arange(len(users), device=lines.device), users
        for _ in range(SCANS):
            found, overflowed = self._scan(left, lines, 0, self._tiles)
            keys[open_rows] = found
            kth = scores_of(found[:, -1])
            complete = torch.isneginf(lines) | (left.highest_behind(lines) < kth)
            still = (overflowed | ~complete).nonzero().flatten()
            if not len(still):
                return keys
            open_rows, left = open_rows[still], left.take(still)
            lines = left.lines_for(kth[still])
            # Nothing behind these lines scores as much as what is found: the next scan settles
            # the user, unless its places overflow again.
        keys[open_rows] = self._in_pieces(left, scores_of(keys[open_rows, -1]))
        return keys

    def _first_lines(self, users: DeviceUsers) -> Tensor:
        """(R,) float32. Any line is right; this one lets a few times k candidates pass."""
        if self.plan.rank > len(self.outfits.sample):
            return torch.full((len(users),), -torch.inf, device=users.halves.device)
        scores = users.halves @ self._sampled.T
        column = self._in_sample[users.seen_places]
        sampled = column >= 0
        scores[users.seen_rows[sampled].long(), column[sampled]] = -torch.inf
        return scores.topk(self.plan.rank, dim=1).values[:, -1].float()

    def _in_pieces(self, users: DeviceUsers, kth: Tensor) -> Tensor:
        """Keys `(R, k)` after a scan, in ascending order, of pieces that cannot overflow.

        `kth (R,)` float32 is a score that the k-th is known to reach.
        """
        keys = torch.full((len(users), self.k), EMPTY, device=kth.device)
        splits = self._splits(len(users))
        step = splits * (self.plan.per_split(splits) * BITS // self.tile.columns)  # at least one
        for start, stop in row_blocks(self._tiles, step):
            lines = users.lines_for(kth)
            # A zero vector scores zero everywhere: once its list is full, no later place can win.
            full = (users.norm == 0) & (keys[:, -1] != EMPTY)
            found, _ = self._scan(users, lines.masked_fill(full, torch.inf), start, stop)
            keys = torch.cat([keys, found], dim=1).topk(self.k, dim=1).values
            kth = torch.maximum(kth, scores_of(keys[:, -1]))
        return keys

    def _scan(
        self, users: DeviceUsers, lines: Tensor, first: int, last: int
    ) -> tuple[Tensor, Tensor]:
        """The best keys `(R, k)` of the candidates in tiles `first` to `last`, and `(R,)` bool:
        candidates were lost because a user's places were full."""
        tile, device = self.tile, lines.device
        blocks = -(-len(users) // tile.rows)
        rows, splits = blocks * tile.rows, self._splits(len(users))
        capacity = self.plan.per_split(splits)
        halves = torch.zeros((rows, self._width), dtype=torch.float16, device=device)
        halves[: len(users)] = users.halves
        padded = torch.full((rows,), torch.inf, device=device)
        padded[: len(users)] = lines
        words = torch.empty((rows, splits, capacity), dtype=torch.int64, device=device)
        counts = torch.empty((rows, splits), dtype=torch.int32, device=device)
        barred = self._barred(users, blocks)
        scan_tiles[(blocks, splits)](
            halves,
            self.outfits.halves,
            padded,
            counts if barred is None else barred,
            words,
            counts,
            len(self.outfits),
            first,
            last,
            self._tiles,
            capacity,
            width=self._width,
            chunk=self._width if self._width <= MAX_CHUNK else WIDE_CHUNK,
            block_rows=tile.rows,
            block_columns=tile.columns,
            has_barred=barred is not None,
            num_warps=tile.warps,
            num_stages=tile.stages,
            enable_fp_fusion=False,
        )
        overflowed = (counts > capacity).any(dim=1)[: len(users)]
        return self._best_of(users, words, counts.clamp(max=capacity)), overflowed

    def _barred(self, users: DeviceUsers, blocks: int) -> Tensor | None:
        """Bit words of the pairs that users have seen, or None if there are none."""
        pairs = len(users.seen_rows)
        if not pairs:
            return None
        tile = self.tile
        shape = (blocks, self._tiles, tile.rows, tile.columns // BITS)
        barred = torch.zeros(shape, dtype=torch.int32, device=users.seen_rows.device)
        _launch(
            bar_pairs,
            pairs,
            BAR_BLOCK,
            (barred, users.seen_rows, users.seen_places, pairs, self._tiles),
            block_rows=tile.rows,
            block_columns=tile.columns,
        )
        return barred

    def _best_of(self, users: DeviceUsers, words: Tensor, counts: Tensor) -> Tensor:
        """Keys `(R, k)` of the candidates in `words (rows, splits, capacity)`, exactly scored."""
        device, (_, splits, capacity) = words.device, words.shape
        keys = torch.full((len(users), self.k), EMPTY, device=device)
        stored = counts.flatten().long()
        owner = repeat(stored)
        slot = torch.arange(len(owner), device=device) - (stored.cumsum(0) - stored)[owner]
        entries = words.flatten()[owner * capacity + slot]
        bit_ends = torch.cat([torch.zeros(1, dtype=torch.int64, device=device), _bits(entries)])
        bit_ends = bit_ends.cumsum(0)
        word_ends = torch.cat([stored.new_zeros(1), stored.view(-1, splits).sum(1).cumsum(0)])
        row_ends = bit_ends[word_ends]
        candidates = row_ends.diff()
        longest = int(candidates.max())
        for start, stop in row_blocks(len(users), max(1, PAIRS // max(longest, self.k))):
            part = slice(int(word_ends[start]), int(word_ends[stop]))
            rows = repeat(candidates[start:stop])
            if not len(rows):
                continue
            places = torch.empty(len(rows), dtype=torch.int32, device=device)
            inputs = entries[part], bit_ends[part] - row_ends[start], places
            _launch(list_bits, len(inputs[0]), WORD_BLOCK, (*inputs, len(inputs[0])))
            scores = self._exact(users, rows + start, places)
            slot = torch.arange(len(rows), device=device) - (row_ends[start:stop])[rows]
            slot += row_ends[start]
            table = torch.full((stop - start, max(longest, self.k)), EMPTY, device=device)
            table[rows, slot] = encode(scores, self.outfits.numbers[places])
            keys[start:stop] = table.topk(self.k, dim=1).values
        return keys

    def _exact(self, users: DeviceUsers, rows: Tensor, places: Tensor) -> Tensor:
        """Exact scores `(P,)` float32 of the pairs `rows, places (P,)`."""
        scores = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        _launch(
            score_pairs,
            len(rows),
            PAIR_BLOCK,
            (users.leaves, self.outfits.leaves, rows, places, scores, len(rows)),
            leaves=self._width,
            levels=self._width.bit_length() - 1,
        )
        return scores.float()

    def _splits(self, n_rows: int) -> int:
        """Programs that share the tiles of one block of users."""
        blocks = -(-n_rows // self.tile.rows)
        programs = PROGRAMS_PER_PROCESSOR * _processors(_of(self.outfits))
        return max(1, min(programs // blocks, self._tiles))


def _rare_count(mean: float) -> int:
    """The first number that a Poisson number reaches with probability `MISSES` at most."""
    if mean >= LARGE_MEAN:
        return math.ceil(mean + NORMAL_QUANTILE * math.sqrt(mean) + 1)
    count, term = 1, math.exp(-mean)
    below = term
    while 1 - below > MISSES:
        term *= mean / count
        below += term
        count += 1
    return count


@cache
def _processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; in the interpreter, two."""
    if device.type == "cpu":
        return 2
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _of(outfits: DeviceOutfits) -> torch.device:
    return outfits.halves.device


def _words(n_outfits: int) -> int:
    return -(-n_outfits // BITS)


def _launch(kernel: Any, size: int, block: int, inputs: tuple[Any, ...], **shape: int) -> None:
    """Run a kernel on `size` elements, `block` to a program."""
    kernel[(triton.cdiv(size, block),)](*inputs, **shape, block=block, enable_fp_fusion=False)


def _bits(entries: Tensor) -> Tensor:
    """How many of the low 32 bits are set in each of `entries (W,)`: neighbours added up twice."""
    sums = entries & 0xFFFFFFFF
    sums = sums - ((sums >> 1) & 0x55555555)
    sums = (sums & 0x33333333) + ((sums >> 2) & 0x33333333)
    sums = (sums + (sums >> 4)) & 0x0F0F0F0F
    return ((sums * 0x01010101) >> 24) & 0xFF
