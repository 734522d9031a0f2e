"""Every random draw of a training follows from its seed, its purpose, the epoch and the step.

So a training that goes on from a checkpoint needs no generator's state, a thread that draws ahead
changes nothing, and one draw more never shifts another.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; each purpose has draws of its own."""

    ORDER = 101
    """Order of the positives of an epoch."""
    NEGATIVES = 102
    FLIPS = 103
    AUGMENTATIONS = 104
    DROPOUT = 105


def numpy_draws(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """The numpy generator of one place (epoch, or epoch and step), counted from 1."""
    return np.random.default_rng(_sequence(seed, purpose, place))


def torch_draws(seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """The torch generator (CPU) of one place."""
    return torch.Generator().manual_seed(_hash(seed, purpose, place))


def seed_dropout(seed: int, *place: int) -> None:
    """Set torch's own generators, which dropout draws from, for one step."""
    torch.manual_seed(_hash(seed, Purpose.DROPOUT, place))


def _hash(seed: int, purpose: Purpose, place: tuple[int, ...]) -> int:
    # 63 bits: torch takes a signed number.
    return int(_sequence(seed, purpose, place).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _sequence(seed: int, purpose: Purpose, place: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, int(purpose), *place])
