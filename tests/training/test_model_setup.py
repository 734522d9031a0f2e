from __future__ import annotations

import copy

import torch
from torch import nn

from recjob.model.backbone import Backbone
from recjob.training.model_setup import pool_before_relu


def test_values_and_gradients_are_the_same_to_the_bit() -> None:
    torch.manual_seed(0)
    plain = Backbone("xs")
    changed = copy.deepcopy(plain)
    pool_before_relu(changed)
    pixels = torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8)
    weights = torch.randn(3, plain.width)
    outputs = []
    for backbone in (plain, changed):
        output = backbone(pixels)
        (output * weights).sum().backward()
        outputs.append(output)
    assert torch.equal(*outputs)
    for (name, first), second in zip(plain.named_parameters(), changed.parameters(), strict=True):
        assert first.grad is not None
        assert second.grad is not None
        assert torch.equal(first.grad, second.grad), name


def test_weights_keep_their_names() -> None:
    backbone = Backbone("s")
    before = list(backbone.state_dict())
    pool_before_relu(backbone)
    assert list(backbone.state_dict()) == before


def test_three_of_alexnets_relus_change_places() -> None:
    backbone = Backbone("xs")
    pool_before_relu(backbone)
    kinds = [type(layer) for layer in backbone.trunk.children()]
    pools = [place for place, kind in enumerate(kinds) if kind is nn.MaxPool2d]
    assert len(pools) == 3
    assert all(kinds[place - 1] is nn.Conv2d and kinds[place + 1] is nn.ReLU for place in pools)


def test_a_relu_that_no_pooling_follows_stays() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    kinds = [type(layer) for layer in layers]
    pool_before_relu(layers)
    assert [type(layer) for layer in layers] == kinds
