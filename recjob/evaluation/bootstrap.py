"""How sure a mean over users is: bootstrap intervals, and a test of paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Interval = tuple[float, float]

CELLS_PER_BLOCK: Final = 2**22
"""Draws times users held at once (32 MiB of float64)."""
PERMUTATIONS: Final = 9_999
"""Sign flips behind a p value, which is therefore never below 1 / 10,000."""
_TIE: Final = 1e-9
"""Sums that differ by this share of the largest possible one are equal but for rounding."""


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of users (Efron, 1979), intervals by percentiles."""

    draws: int
    """Resamplings; 0: no intervals."""
    confidence: float
    """Share of the resamplings that an interval holds."""
    seed: int

    def means(self, values: FloatArray) -> FloatArray:
        """`(draws, M)` means of `values (U, M)` over users drawn with replacement.

        The columns share the resamplings, so that ratios of columns can be resampled too.
        """
        n = len(values)
        rng = np.random.default_rng([self.seed, 23])
        means = np.empty((self.draws, values.shape[1]))
        for block in _blocks(self.draws, n):
            size = block.stop - block.start
            drawn = rng.integers(0, n, (size, n))
            drawn += np.arange(size)[:, None] * n
            # How often each user was drawn, which turns sums over users into one product.
            counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
            means[block] = counts.astype(np.float64) @ values / n
        return means

    def intervals(self, values: FloatArray) -> tuple[Interval | None, ...]:
        """An interval of the mean of each column of `values (U, M)`; None without draws."""
        means = self.means(values)
        return tuple(self.interval(column) for column in means.T)

    def interval(self, samples: FloatArray) -> Interval | None:
        """The percentiles of `samples (draws,)`; None where there are none that are finite."""
        samples = samples[np.isfinite(samples)]
        if not samples.size:
            return None
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(samples, [outside, 1 - outside])
        return float(low), float(high)

    def widening(self, n: int) -> float:
        """How many times wider an interval of the mean of `n` values ought to be; 1 for many.

        Percentiles of resampled means forget that so few values tell little of their own spread:
        an interval of the normal distribution's shape and of the spread's biased estimate. This
        makes it one of Student's (Hesterberg, 2015, Sec. 5.3). `n`: 2 or more.
        """
        inside = (1 + self.confidence) / 2
        normal = NormalDist().inv_cdf(inside)
        return student_quantile(inside, n - 1) / normal * math.sqrt(n / (n - 1))


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t, for probabilities of 0.5 to 0.995 good to 1 %.

    Exact for 1 and 2 degrees of freedom, else the expansion about the normal distribution's
    (Abramowitz and Stegun, 26.7.5).
    """
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        centred = 2 * probability - 1
        return centred * math.sqrt(2 / (1 - centred**2))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def sign_flip_p(differences: FloatArray, seed: int) -> float:
    """Two-sided p value of the mean of paired `differences (U,)` being 0 (Fisher, 1935).

    Without a difference between two methods each user's difference could as well have the other
    sign: p is the share of random signs whose mean is as far from 0 as the one found (which counts
    as one of them, so that p is valid and never 0).
    """
    n = len(differences)
    total = differences.sum()
    found = abs(total) - _TIE * np.abs(differences).sum()
    rng = np.random.default_rng([seed, 29])
    as_far = 1
    for block in _blocks(PERMUTATIONS, n):
        size = block.stop - block.start
        # Whole words: unlike bytes they are the same however the draws are cut into blocks.
        words = rng.integers(0, 2**64, (size, -(-n // 64)), dtype=np.uint64)
        positive = np.unpackbits(words.view(np.uint8), axis=1, count=n).astype(np.float64)
        flipped = 2 * (positive @ differences) - total
        as_far += int(np.count_nonzero(np.abs(flipped) >= found))
    return as_far / (PERMUTATIONS + 1)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    size = max(1, CELLS_PER_BLOCK // max(width, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
