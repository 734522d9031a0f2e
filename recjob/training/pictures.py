"""From a batch to outfit vectors: each picture read once, flipped at random, and encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from recjob.model.recommender import OutfitRecommender
from recjob.training.compute import Compute
from recjob.training.data import Batch, BatchSource, TrainingData, UniqueItems, unique_items
from recjob.training.distributed import Ranks
from recjob.training.draws import Purpose, torch_draws
from recjob.training.frozen_features import FrozenFeatures

NAMED_POSITIVES: Final = 3
"""Positives that a message on a batch names; with epoch, step and seed the rest can be drawn."""

Views = Callable[[Tensor, torch.Generator], tuple[Tensor, ...]]
"""Further sets of outfits `(B, M)` made of a batch's positives `(B, M)` (the contrastive views)."""


@dataclass(frozen=True)
class StepInput:
    """All that a step reads: a batch, where its items are, and their pictures."""

    batch: Batch
    unique: UniqueItems
    """Of the positives, the negatives and the views, in this order."""
    pixels: Tensor
    """(n_own, 3, S, S) uint8 pictures of this process's share of `unique.items`, flipped; where
    the trunk is frozen (n_own, trunk_width) float32, what it saw in them."""

    def to(self, device: torch.device) -> StepInput:
        """The same on the device of the model."""
        if device.type == "cpu":
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        batch = replace(
            self.batch,
            users=moved(self.batch.users),
            outfits=moved(self.batch.outfits),
            negatives=moved(self.batch.negatives),
            valid=None if self.batch.valid is None else moved(self.batch.valid),
        )
        unique = replace(
            self.unique,
            places=tuple(moved(place) for place in self.unique.places),
            masks=tuple(moved(mask) for mask in self.unique.masks),
        )
        return StepInput(batch, unique, moved(self.pixels))


class StepSource:
    """The inputs of every step of an epoch."""

    def __init__(
        self,
        data: TrainingData,
        batches: BatchSource,
        flip: bool,
        seed: int,
        ranks: Ranks,
        views: Views | None = None,
        frozen: FrozenFeatures | None = None,
    ) -> None:
        self._data = data
        self._batches = batches
        self._flip = flip
        self._seed = seed
        self._ranks = ranks
        self._views = views
        self._frozen = frozen

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return self._batches.steps

    def describe(self, batch: Batch) -> str:
        """The first positives of a batch in the shop's own words, for a message."""
        catalog = self._data.catalog
        named = [
            f"user {catalog.user_ids[user]!r} with outfit {catalog.outfit_ids[outfit]!r}"
            for user, outfit in batch.positives[batch.own][:NAMED_POSITIVES]
        ]
        return ", ".join(named)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[StepInput]:
        """The inputs of epoch `number` (from 1), without the first `first_step` of them."""
        for batch in self._batches.epoch(number, first_step):
            yield self._input(batch)

    def _input(self, batch: Batch) -> StepInput:
        place = (batch.epoch, batch.step)
        sets = [batch.outfits, batch.negatives]
        if self._views is not None:
            draws = torch_draws(self._seed, Purpose.AUGMENTATIONS, *place)
            sets += self._views(batch.outfits, draws)
        unique = unique_items(*sets)
        own = self._ranks.own(unique.items.size)
        items, mirrored = unique.items[own], None
        if self._flip:
            draws = torch_draws(self._seed, Purpose.FLIPS, *place)
            mirrored = torch.rand(unique.items.size, generator=draws)[own] < 0.5
        if self._frozen is not None:
            return StepInput(batch, unique, self._frozen.gather(items, mirrored))
        pixels = self._data.gather(items)
        if mirrored is not None:
            pixels = mirror(pixels, mirrored)
        return StepInput(batch, unique, pixels)


def mirror(pixels: Tensor, mirrored: Tensor) -> Tensor:
    """Pictures `(B, 3, H, W)`, those of `mirrored (B,)` left to right; may change `pixels`."""
    pixels[mirrored] = pixels[mirrored].flip(3)
    return pixels


def encode_sets(
    model: OutfitRecommender, step: StepInput, compute: Compute, ranks: Ranks
) -> tuple[Tensor, ...]:
    """Outfit vectors `(B_i, 128)` of each set; every picture passes the trunk once, a frozen
    trunk not at all.

    Several processes share the work: each encodes its share of the pictures, then of the outfits.
    """
    unique = step.unique
    with compute.autocast():
        if step.pixels.ndim == 2:
            features = model.encode_trunk_features(step.pixels)
        else:
            features = model.encode_items(step.pixels)
    features = ranks.gather(features.float(), unique.items.size)
    places, masks = torch.cat(unique.places), torch.cat(unique.masks)
    own = ranks.own(len(places))
    outfits = model.encode_outfits(features[places[own]], masks[own])
    everyone = ranks.gather(outfits, len(places))
    return torch.split(everyone, [len(place) for place in unique.places])
