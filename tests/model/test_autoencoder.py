"""Shapes and parts of the autoencoder."""

from __future__ import annotations

import pytest
import torch

from recjob.model.autoencoder import Autoencoder
from recjob.model.backbone import Backbone


@pytest.mark.parametrize(("side", "latent_dim"), [(64, 8), (96, 128)])
def test_shapes(side: int, latent_dim: int) -> None:
    torch.manual_seed(0)
    model = Autoencoder(side, latent_dim)
    pixels = torch.randint(0, 256, (3, 3, side, side)).float()
    latent = model.encode(pixels)
    assert latent.shape == (3, latent_dim)
    picture = model(pixels).detach()
    assert picture.shape == (3, 3, side, side)
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
    assert torch.equal(picture, model.decoder(latent).detach())


def test_bytes_and_floats_are_the_same_pictures() -> None:
    model = Autoencoder(64, 4)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(model.encode(pixels), model.encode(pixels.float()))


def test_its_trunk_starts_a_recommender() -> None:
    """Same names, same shapes; the recommender's trunk then gives the same feature maps."""
    torch.manual_seed(1)
    model = Autoencoder(64, 4)
    backbone = Backbone("xs")
    backbone.trunk.load_state_dict(model.backbone.trunk.state_dict())
    pixels = torch.rand(1, 3, 64, 64) * 255
    scaled = (pixels - backbone.mean) / backbone.deviation
    maps = backbone.trunk(scaled)
    torch.testing.assert_close(maps, model.backbone.trunk(scaled))
    torch.testing.assert_close(backbone(pixels), maps.mean(dim=(2, 3)))


def test_every_parameter_learns() -> None:
    torch.manual_seed(2)
    model = Autoencoder(64, 16)
    pixels = torch.rand(4, 3, 64, 64) * 255
    (model(pixels) - pixels / 255).square().mean().backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]
    assert still == []


@pytest.mark.parametrize("side", [63, 72, 100])
def test_sides_that_cannot_be_halved(side: int) -> None:
    with pytest.raises(ValueError, match="image_size must be a multiple of 16"):
        Autoencoder(side, 8)
