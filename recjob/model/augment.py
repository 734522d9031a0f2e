"""Outfit augmentations for the contrastive loss: erase, replace, identity (Sec. 3.3.1, 3.3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["identity", "erase", "replace"]

PADDING = -1
"""Marks the unused places of an outfit's row."""


def augment_pair(
    outfits: Tensor,
    augmentations: tuple[Augmentation, Augmentation],
    neighbours: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Two views of each outfit; each alters at most one item.

    With two equal augmentations the altered items differ; otherwise both places are drawn on their
    own. An outfit of one item is left as it is, and so is an item without neighbours.

    Args:
        outfits: `(B, M)` int64 item indices, -1 where there is none (at any place).
        augmentations: what the first and the second view do.
        neighbours: `(n_items, K)` int64, for each item visually similar items of its category,
            nearest first, -1 where there are fewer. Read by "replace" only.
        generator: source of the random draws, on the device of `outfits`.

    Returns:
        Two tensors `(B, M)`. An erased place is -1, so padding may stand between items.

    Raises:
        ValueError: for the pair (identity, identity), whose views would not differ.
    """
    if augmentations == ("identity", "identity"):
        raise ValueError("(identity, identity) gives equal views; choose another pair")
    # The order of random keys is a random order of the places; padding comes last.
    keys = torch.rand(outfits.shape, generator=generator, device=outfits.device)
    order = keys.masked_fill(outfits == PADDING, 2.0).argsort(dim=1)
    size = (outfits != PADDING).sum(dim=1)
    first_place = order[:, 0]
    if augmentations[0] == augmentations[1]:
        second_place = order[:, min(1, outfits.shape[1] - 1)]
    else:
        draw = torch.rand(size.shape, generator=generator, device=outfits.device)
        rank = (draw * size).long().clamp(max=outfits.shape[1] - 1)
        second_place = order.gather(1, rank[:, None]).squeeze(1)
    places = (first_place, second_place)
    first, second = (
        _alter(outfits, kind, place, size > 1, neighbours, generator)
        for kind, place in zip(augmentations, places, strict=True)
    )
    return first, second


def _alter(
    outfits: Tensor,
    augmentation: Augmentation,
    place: Tensor,
    may_change: Tensor,
    neighbours: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """`outfits (B, M)` with the item at `place (B,)` altered where `may_change (B,)`."""
    if augmentation == "identity":
        return outfits
    current = outfits.gather(1, place[:, None]).squeeze(1)
    if augmentation == "erase":
        new = torch.full_like(current, PADDING)
    else:
        new = _similar(current, neighbours, generator)
    new = torch.where(may_change, new, current)
    return outfits.scatter(1, place[:, None], new[:, None])


def _similar(items: Tensor, neighbours: Tensor, generator: torch.Generator) -> Tensor:
    """A random neighbour of each item `(B,)`; the item itself where it has none."""
    candidates = neighbours[items]
    count = (candidates != PADDING).sum(dim=1)
    draw = torch.rand(items.shape, generator=generator, device=items.device)
    rank = (draw * count).long().clamp(max=neighbours.shape[1] - 1)
    chosen = candidates.gather(1, rank[:, None]).squeeze(1)
    return torch.where(count > 0, chosen, items)
