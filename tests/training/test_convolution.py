"""Small maps: the same forward pass, and gradients as good as torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import alexnet

from recjob.training.compute import Compute
from recjob.training.convolution import SmallMapConv2d, _Convolution, quicken_small_maps


def gradients(layer: nn.Conv2d, pixels: Tensor) -> tuple[Tensor, ...]:
    """Output, and gradients of pixels, weight and bias, under bf16."""
    pixels = pixels.clone().requires_grad_()
    with Compute(torch.device("cpu"), bf16=True).autocast():
        output = layer(pixels)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    wanted = [pixels, layer.weight] + ([] if layer.bias is None else [layer.bias])
    return (output, *torch.autograd.grad((output.float() * weights).sum(), wanted))


@pytest.mark.parametrize(
    ("kernel", "padding", "bias"), [(3, 1, True), (5, 2, True), ((3, 2), (0, 1), False)]
)
def test_the_same_layer_with_the_same_gradients(
    kernel: int, padding: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, kernel, padding=padding, bias=bias)
    pixels = torch.randn(6, 8, 4, 5).to(memory_format=torch.channels_last)
    quick = SmallMapConv2d(plain)
    assert quick.weight is plain.weight
    calls = 0
    apply = _Convolution.apply

    def counted(*args: object) -> Tensor:
        nonlocal calls
        calls += 1
        output: Tensor = apply(*args)
        return output

    monkeypatch.setattr(_Convolution, "apply", counted)
    got = gradients(quick, pixels)
    assert calls == 1  # else both sides of the comparison are torch's
    expected = gradients(plain, pixels)
    assert torch.equal(got[0], expected[0])
    for one, other in zip(got[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=float(other.abs().max()) / 100)


@pytest.mark.parametrize(("side", "bf16"), [(8, True), (4, False)])
def test_elsewhere_it_is_torchs_own(side: int, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = SmallMapConv2d(nn.Conv2d(2, 3, 3, padding=1))
    monkeypatch.setattr(_Convolution, "apply", None)
    with Compute(torch.device("cpu"), bf16).autocast():
        quick(torch.randn(1, 2, side, side))
    with torch.no_grad(), Compute(torch.device("cpu"), True).autocast():
        quick(torch.randn(1, 2, 4, 4))


def test_a_trunk_keeps_its_parameters_and_their_names() -> None:
    trunk = alexnet().features
    before = dict(trunk.named_parameters())
    quicken_small_maps(trunk)
    after = dict(trunk.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert sum(type(layer) is SmallMapConv2d for layer in trunk) == 4  # the first has a stride
