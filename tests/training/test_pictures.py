"""Pictures in a step: encoded once, flipped, and put where they belong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recjob.catalog.catalog import PADDING
from recjob.model.recommender import OutfitRecommender
from recjob.training.data import BatchSource, TrainingData, unique_items
from recjob.training.distributed import Ranks
from recjob.training.pictures import StepInput, StepSource, encode_sets, mirror
from tests.inference.students import student
from tests.training.colours import cpu

SETS = (
    torch.tensor([[0, 6, 12, PADDING], [1, 7, 13, 14], [0, 6, 12, PADDING]]),
    torch.tensor([[PADDING, 6, 13, PADDING], [17, PADDING, 1, 0]]),
)


def step_of(data: TrainingData) -> StepInput:
    """A step on SETS, nothing mirrored."""
    unique = unique_items(*SETS)
    [batch] = BatchSource(data, 10_000, 1, 0.0, 1, 0).epoch(1)
    return StepInput(batch, unique, data.gather(unique.items))


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
    encoded = encode_sets(model, step_of(data), cpu(), Ranks())
    for got, outfits in zip(encoded, SETS, strict=True):
        torch.testing.assert_close(got, one_by_one(model, data, outfits), rtol=0, atol=1e-5)
    assert float((encoded[0][0] - encoded[0][1]).abs().max()) > 1e-2


def test_each_picture_passes_the_trunk_once(data: TrainingData) -> None:
    model = student()
    seen: list[Tensor] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    with model.backbone.register_forward_pre_hook(remember):
        encode_sets(model, step_of(data), cpu(), Ranks())
    [pixels] = seen
    distinct = sorted({int(item) for outfits in SETS for item in outfits.ravel()} - {PADDING})
    assert pixels.shape == (len(distinct), 3, 64, 64)
    assert torch.equal(pixels, torch.from_numpy(data.pixels[distinct]).permute(0, 3, 1, 2))


def flips(data: TrainingData, seed: int, number: int) -> list[tuple[Tensor, Tensor]]:
    """Of each step of an epoch its pictures, and those that were mirrored."""
    batches = BatchSource(data, 16, 1, 0.0, 1, 0)
    found = []
    for step in StepSource(data, batches, True, seed, Ranks()).epoch(number):
        plain = data.gather(step.unique.items)
        same = (step.pixels == plain).flatten(1).all(dim=1)
        mirrored = (step.pixels == plain.flip(3)).flatten(1).all(dim=1)
        assert bool((same ^ mirrored).all())
        found.append((step.pixels, mirrored))
    return found


def test_about_half_of_the_pictures_are_mirrored(data: TrainingData) -> None:
    steps = [step for number in range(1, 5) for step in flips(data, 0, number)]
    mirrored = torch.cat([flipped for _, flipped in steps])
    assert len(mirrored) > 200
    assert 0.4 < float(mirrored.float().mean()) < 0.6
    again, other = flips(data, 0, 1)[0], flips(data, 1, 1)[0]
    assert torch.equal(steps[0][0], again[0])
    assert not torch.equal(steps[0][1], other[1])


def test_pictures_are_mirrored_in_place() -> None:
    pixels = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8)
    expected = pixels.clone()
    expected[1] = expected[1][..., [4, 3, 2, 1, 0]]
    assert torch.equal(mirror(pixels, torch.tensor([False, True, False])), expected)


def test_two_processes_share_what_one_would_read(data: TrainingData) -> None:
    """The inputs of two processes are one input, cut in two."""
    batches = BatchSource(data, 16, 2, 0.5, 3, 0)
    [whole, *_] = StepSource(data, batches, True, 5, Ranks()).epoch(2)
    shares = []
    for rank in range(2):
        ranks = Ranks(rank, 2)
        own = BatchSource(data, 8, 2, 0.5, 3, 0, ranks)
        shares.append(next(StepSource(data, own, True, 5, ranks).epoch(2)))
    assert torch.equal(torch.cat([share.pixels for share in shares]), whole.pixels)
    assert abs(len(shares[0].pixels) - len(shares[1].pixels)) <= 1
    for share in shares:
        assert torch.equal(share.batch.negatives, whole.batch.negatives)
        assert (share.unique.items == whole.unique.items).all()
    assert whole.batch.valid is not None
    valid = [
        torch.ones(8, len(whole.batch.negatives), dtype=torch.bool)
        if share.batch.valid is None
        else share.batch.valid
        for share in shares
    ]
    assert torch.equal(torch.cat(valid), whole.batch.valid)
