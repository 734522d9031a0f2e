"""Convolutions whose weight gradient on small maps is a matrix product: for bf16 on CPUs.

AlexNet's last convolutions see maps of 3 x 3 (pictures of 64 pixels) or 5 x 5 (96 pixels). There
oneDNN's bf16 weight gradient runs at a tenth of the speed of its forward pass, and was half of a
training step. Plain matrix products do the same sums.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

SMALL_MAP: Final = 25
"""Most places (height x width) of an output map for which matrix products are faster: measured
3 to 5 times at 3 x 3, 1.8 to 2.5 times at 5 x 5, and even at 7 x 7."""


def quicken_small_maps(module: nn.Module) -> None:
    """Replace the convolutions within `module`; parameters, their names and the results stay."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d and _is_plain(child):
            setattr(module, name, SmallMapConv2d(child))
        else:
            quicken_small_maps(child)


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d with the parameters of another; only its backward pass differs."""

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__(
            like.in_channels,
            like.out_channels,
            (like.kernel_size[0], like.kernel_size[1]),
            padding=_padding(like),
            bias=like.bias is not None,
            device="meta",
        )
        self.weight = like.weight
        self.bias = like.bias

    # Traced, it would fall back to oneDNN's weight gradient.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, O, H', W')`."""
        quick = (
            torch.is_autocast_enabled("cpu")
            and input.device.type == "cpu"
            and torch.is_grad_enabled()
            and self.weight.requires_grad
        )
        if not quick or self._places(input) > SMALL_MAP:
            return super().forward(input)
        half = torch.get_autocast_dtype("cpu")
        bias = None if self.bias is None else self.bias.to(half)
        output: Tensor = _Convolution.apply(
            input.to(half), self.weight.to(half), bias, _padding(self)
        )
        return output

    def _places(self, input: Tensor) -> int:
        top, left = _padding(self)
        height = int(input.shape[2]) + 2 * top - self.kernel_size[0] + 1
        width = int(input.shape[3]) + 2 * left - self.kernel_size[1] + 1
        return height * width


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        pixels: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        ctx.padding = padding  # type: ignore[attr-defined]
        return functional.conv2d(pixels, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        pixels, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        padding = ctx.padding  # type: ignore[attr-defined]
        wants_pixels, _, wants_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        of_pixels = None
        if wants_pixels:
            of_pixels = torch.ops.aten.convolution_backward(
                gradient, pixels, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1,
                (True, False, False),
            )[0]  # fmt: skip
        of_bias = gradient.sum((0, 2, 3), dtype=torch.float32) if wants_bias else None
        return of_pixels, _weight_gradient(gradient, pixels, weight, padding), of_bias, None


def _weight_gradient(
    gradient: Tensor, pixels: Tensor, weight: Tensor, padding: tuple[int, int]
) -> Tensor:
    """`(O, C, k, l)`: for each place of the kernel, gradients times the pixels that it saw."""
    outputs, channels, kernel_height, kernel_width = weight.shape
    height, width = gradient.shape[2:]
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).T
    top, left = padding
    seen = functional.pad(pixels.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
    products = weight.new_empty(kernel_height, kernel_width, outputs, channels)
    for i in range(kernel_height):
        for j in range(kernel_width):
            window = seen[:, i : i + height, j : j + width].reshape(-1, channels)
            torch.mm(rows, window, out=products[i, j])
    return products.permute(2, 3, 0, 1)


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    """Height and width; `_is_plain` saw to it that they are numbers."""
    return int(layer.padding[0]), int(layer.padding[1])


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.stride == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.kernel_size != (1, 1)
    )
