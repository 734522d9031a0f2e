"""Pictures in a step: encoded once, flipped, and put where they belong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recjob.catalog.catalog import PADDING
from recjob.model.recommender import OutfitRecommender
from recjob.training.data import TrainingData, unique_items
from recjob.training.fit import seeded_generator
from recjob.training.pictures import encode_sets, flip_at_random
from tests.inference.students import student
from tests.training.colours import cpu

SETS = (
    torch.tensor([[0, 6, 12, PADDING], [1, 7, 13, 14], [0, 6, 12, PADDING]]),
    torch.tensor([[PADDING, 6, 13, PADDING], [17, PADDING, 1, 0]]),
)


def one_by_one(model: OutfitRecommender, data: TrainingData, outfits: Tensor) -> Tensor:
    """Every outfit on its own, its pictures encoded for it alone, without padding."""
    rows = []
    for outfit in outfits:
        items = outfit[outfit != PADDING].numpy()
        features = model.encode_items(data.gather(items))
        rows.append(model.encode_outfits(features[None], torch.ones(1, len(items)).bool())[0])
    return torch.stack(rows)


@torch.no_grad()
def test_sets_are_encoded_as_their_outfits_one_by_one(data: TrainingData) -> None:
    model = student().eval()
    encoded = encode_sets(model, data, unique_items(*SETS), cpu(), False, seeded_generator(0, 1))
    for got, outfits in zip(encoded, SETS, strict=True):
        torch.testing.assert_close(got, one_by_one(model, data, outfits), rtol=0, atol=1e-5)
    assert float((encoded[0][0] - encoded[0][1]).abs().max()) > 1e-2


def test_each_picture_passes_the_trunk_once(data: TrainingData) -> None:
    model = student()
    seen: list[Tensor] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    with model.backbone.register_forward_pre_hook(remember):
        encode_sets(model, data, unique_items(*SETS), cpu(), False, seeded_generator(0, 1))
    [pixels] = seen
    distinct = sorted({int(item) for outfits in SETS for item in outfits.ravel()} - {PADDING})
    assert pixels.shape == (len(distinct), 3, 64, 64)
    assert torch.equal(pixels, torch.from_numpy(data.pixels[distinct]).permute(0, 3, 1, 2))


def test_flips_mirror_about_half() -> None:
    pixels = torch.randint(0, 256, (200, 3, 4, 5), dtype=torch.uint8)
    flipped = flip_at_random(pixels, seeded_generator(0, 1))
    same = (flipped == pixels).flatten(1).all(dim=1)
    mirrored = (flipped == pixels[..., [4, 3, 2, 1, 0]]).flatten(1).all(dim=1)
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130
    assert torch.equal(flipped, flip_at_random(pixels, seeded_generator(0, 1)))
    assert not torch.equal(flipped, flip_at_random(pixels, seeded_generator(1, 1)))


@torch.no_grad()
def test_a_flipped_item_is_flipped_in_every_outfit(data: TrainingData) -> None:
    model = student().eval()
    unique = unique_items(*SETS)
    encoded = encode_sets(model, data, unique, cpu(), True, seeded_generator(3, 1))
    assert torch.equal(encoded[0][0], encoded[0][2])
    plain = encode_sets(model, data, unique, cpu(), False, seeded_generator(3, 1))
    assert not torch.equal(encoded[0], plain[0])
