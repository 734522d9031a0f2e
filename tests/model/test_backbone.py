"""torchvision's models as trunks: without their classifier, at the side that they demand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from recjob.errors import SettingsError
from recjob.model.backbone import Backbone
from recjob.model.recommender import OutfitRecommender
from recjob.model.torchvision_trunk import backbone_names

SMALL = {"shufflenet_v2_x0_5": 1024, "mobilenet_v3_small": 1024, "squeezenet1_1": 512}
"""Small models, each with another kind of last layer, and the width before it."""


def pictures(side: int, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("name", sorted(SMALL))
@torch.no_grad()
def test_features_are_what_the_classifier_of_torchvisions_model_reads(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone("xs", name=name).eval()
    assert (backbone.width, backbone.trunk_width) == (SMALL[name], SMALL[name])
    theirs = get_model(name, weights=None).eval()
    missing = theirs.load_state_dict(backbone.trunk.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert {key.rsplit(".", 1)[0] for key in missing.missing_keys} == {backbone.classifier}
    seen: list[torch.Tensor] = []
    last = theirs.get_submodule(str(backbone.classifier))
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = pictures(64)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    theirs((pixels.float() / 255 - mean) / deviation)
    [expected] = seen
    if expected.ndim == 4:  # SqueezeNet's convolution, after which it rectifies and pools
        expected = expected.relu().mean(dim=(2, 3))
    torch.testing.assert_close(backbone(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [64, 224, 291])
def test_a_model_of_one_side_gets_pictures_of_that_side(side: int) -> None:
    with torch.device("meta"):  # its 88 million weights are not drawn
        backbone = Backbone("xs", name="vit_b_32")
    backbone.trunk = nn.Identity()
    pixels = pictures(side)
    resized = functional.interpolate(
        pixels.float(), (224, 224), mode="bilinear", antialias=side > 224
    )
    expected = (resized - backbone.mean) / backbone.deviation
    torch.testing.assert_close(backbone(pixels), expected.flatten(1))


def test_a_model_of_any_side_gets_pictures_of_its_least_side() -> None:
    with torch.device("meta"):
        backbone = Backbone("xs", name="inception_v3")
    backbone.trunk = nn.Identity()
    sides = {side: round((backbone(pictures(side)).shape[1] / 3) ** 0.5) for side in (64, 75, 300)}
    assert sides == {64: 75, 75: 75, 300: 300}


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("convnext", "convnext_tiny"), ("vit", "vit_b_16")]
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=near) as caught:
        OutfitRecommender("xs", 2, backbone=name)
    assert f'backbone = "{name}"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_detection_and_segmentation_models_are_no_backbones() -> None:
    names = backbone_names()
    assert {"alexnet", "convnext_tiny", "resnet50", "vit_b_16", "swin_t"} <= set(names)
    assert not any("rcnn" in name or "segmentation" in name for name in names)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["alexnet", "shufflenet_v2_x0_5"])
def test_item_features_from_trunk_features_are_those_from_pixels(backbone: str) -> None:
    torch.manual_seed(0)
    model = OutfitRecommender("s", 2, backbone=backbone).eval()
    pixels = pictures(64)
    kept = model.backbone.trunk_features(pixels)
    assert kept.shape == (2, model.backbone.trunk_width)
    torch.testing.assert_close(model.encode_trunk_features(kept), model.encode_items(pixels))
