"""Draws follow from seed, purpose and place, and from nothing else."""

from __future__ import annotations

import numpy as np
import torch

from recjob.training.draws import Purpose, numpy_draws, seed_dropout, torch_draws


def test_every_place_has_draws_of_its_own() -> None:
    places = [
        (seed, purpose, epoch, step)
        for seed in (0, 1, 2**31 - 1)
        for purpose in Purpose
        for epoch in (1, 2)
        for step in (1, 2)
    ]
    of_numpy = {tuple(numpy_draws(*place).random(3)) for place in places}
    of_torch = {tuple(torch.rand(3, generator=torch_draws(*place)).tolist()) for place in places}
    assert len(of_numpy) == len(of_torch) == len(places)


def test_the_same_place_draws_the_same() -> None:
    torch.manual_seed(5)
    np.testing.assert_array_equal(
        numpy_draws(3, Purpose.FLIPS, 1, 2).random(4), numpy_draws(3, Purpose.FLIPS, 1, 2).random(4)
    )
    first, again = (torch.rand(4, generator=torch_draws(3, Purpose.ORDER, 7)) for _ in range(2))
    assert torch.equal(first, again)


def test_dropout_is_the_same_at_the_same_step() -> None:
    drop = torch.nn.Dropout(0.5)
    seen = []
    for place in ((1, 1), (1, 2), (1, 1)):
        seed_dropout(0, *place)
        seen.append(drop(torch.ones(50)))
        torch.rand(7)  # what else was drawn has no part in it
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
