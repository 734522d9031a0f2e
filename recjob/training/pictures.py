"""From items to features in a training step: each picture once, flipped at random."""

from __future__ import annotations

import torch
from torch import Tensor

from recjob.model.recommender import OutfitRecommender
from recjob.training.compute import Compute
from recjob.training.data import TrainingData, UniqueItems


def flip_at_random(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture of `(B, 3, H, W)` left to right with probability one half."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    mirrored = mirrored.to(pixels.device)[:, None, None, None]
    return torch.where(mirrored, pixels.flip(3), pixels)


def encode_sets(
    model: OutfitRecommender,
    data: TrainingData,
    unique: UniqueItems,
    compute: Compute,
    flip: bool,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Outfit vectors `(B_i, 128)` of each set; every picture passes the trunk once."""
    pixels = data.gather(unique.items).to(compute.device, non_blocking=True)
    if flip:
        pixels = flip_at_random(pixels, generator)
    with compute.autocast():
        features = model.encode_items(pixels)
    features = features.float()
    return tuple(
        model.encode_outfits(features[place.to(compute.device)], mask.to(compute.device))
        for place, mask in zip(unique.places, unique.masks, strict=True)
    )
