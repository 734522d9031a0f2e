import pytest
import torch

from recjob.model.backbone import ModelSize
from recjob.model.recommender import ContrastiveProjection, OutfitRecommender


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("n_users", "expected"),
    [
        (630, {"xs": 2.85, "s": 13.88, "m": 28.10, "large": 65.99}),
        (519, {"xs": 2.83, "s": 13.86, "m": 28.09, "large": 65.97}),
    ],
)
def test_parameter_counts_are_those_of_table_5(
    n_users: int, expected: dict[ModelSize, float]
) -> None:
    with torch.device("meta"):
        counts = {size: millions(OutfitRecommender(size, n_users)) for size in expected}
    assert {size: round(count, 2) for size, count in counts.items()} == expected


def test_the_projection_has_the_papers_003_million() -> None:
    assert sum(p.numel() for p in ContrastiveProjection().parameters()) == 33_024


@pytest.fixture(scope="module")
def model() -> OutfitRecommender:
    torch.manual_seed(0)
    return OutfitRecommender("xs", 4).eval()


@torch.no_grad()
def test_an_outfit_is_a_set(model: OutfitRecommender) -> None:
    features = torch.randn(3, 4, 128, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    vectors = model.encode_outfits(features, mask)
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        torch.testing.assert_close(
            model.encode_outfits(features[:, order], mask[:, order]), vectors, rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_padding_has_no_influence(model: OutfitRecommender) -> None:
    features = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, 3, dtype=torch.bool)
    vectors = model.encode_outfits(features, mask)
    noise = 100 * torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(3))
    padded = torch.cat([features, noise], dim=1)
    padded_mask = torch.cat([mask, torch.zeros(2, 5, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(
        model.encode_outfits(padded, padded_mask), vectors, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_the_score_is_the_cosine_of_user_and_outfit(model: OutfitRecommender) -> None:
    pixels = torch.randint(0, 256, (2, 3, 3, 64, 64), generator=torch.Generator().manual_seed(4))
    pixels = pixels.to(torch.uint8)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    users = torch.tensor([2, 0])
    scores = model(users, pixels, mask)
    outfits = model.encode_outfits(model.encode_items(pixels.flatten(0, 1)).view(2, 3, 128), mask)
    for row in range(2):
        user = model.users.weight[users[row]]
        expected = user @ outfits[row] / (user.norm() * outfits[row].norm())
        assert scores[row].item() == pytest.approx(expected.item(), abs=1e-6)


@torch.no_grad()
def test_bytes_and_floats_of_the_same_pixels_agree(model: OutfitRecommender) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(
        model.encode_items(pixels.to(torch.uint8)), model.encode_items(pixels.float())
    )


@pytest.mark.parametrize("size", ["s"])
@torch.no_grad()
def test_other_sizes_take_small_and_large_pictures(size: ModelSize) -> None:
    model = OutfitRecommender(size, 2).eval()
    for side in (64, 96, 224):
        assert model.encode_items(torch.zeros(1, 3, side, side)).shape == (1, 128)
