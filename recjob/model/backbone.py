"""The image trunk: AlexNet in the four sizes of the paper (Sec. 4.1.4, 4.7), or torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet

from recjob.model.torchvision_trunk import ALEXNET, torchvision_trunk

ModelSize = Literal["xs", "s", "m", "large"]

FULLY_CONNECTED_WIDTH: Final[dict[str, int]] = {"s": 1024, "m": 2048, "large": 4096}
"""Width of fc6 and fc7: AlexNet's 4096 times 1/4, 1/2 and 1 (Sec. 4.7)."""
TRUNK_CHANNELS: Final = 256
"""Channels of AlexNet's last convolution."""
POOLED_SIDE: Final = 6
"""AlexNet pools its last feature map to 6 x 6 before fc6."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Pixels to image features: `(B, 3, H, W)` in [0, 255] to `(B, width)`.

    With the name "alexnet", "xs" is AlexNet-small: no fully connected layer, global average pooling
    (width 256), and the other sizes keep fc6 and fc7 with dropout. With any other name it is that
    model of torchvision without its classifier, and size and dropout have no meaning. Pixels are
    scaled, resized where the model demands it, and normalised here, so that no caller (nor an
    exported engine) can forget it.

    Raises SettingsError for a name that torchvision does not have.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: ModelSize, dropout: float = 0.5, name: str = ALEXNET) -> None:
        super().__init__()
        self.name = name
        self.trunk: nn.Module
        self.pool: nn.Module = nn.Identity()
        self.fully_connected: nn.Module = nn.Identity()
        self.classifier: str | None = None
        """Place in torchvision's model of the classifier that is not here."""
        if name == ALEXNET:
            self._build_alexnet(size, dropout)
            return
        found = torchvision_trunk(name)
        self.trunk = found.module
        self.classifier = found.classifier
        self.trunk_width = self.width = found.width
        self._least_side, self._most_side = found.least_side, found.most_side
        self._normalise_by(found.mean, found.deviation)

    def _build_alexnet(self, size: ModelSize, dropout: float) -> None:
        self._least_side, self._most_side = 0, None
        self._normalise_by(IMAGENET_MEAN, IMAGENET_DEVIATION)
        device = torch.get_default_device()
        with torch.device("meta"):  # its classifier, of 58 million weights, is not drawn
            layers = alexnet().features
        layers.to_empty(device=device)
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and device.type != "meta":
                layer.reset_parameters()
            elif isinstance(layer, nn.ReLU):
                layer.inplace = False  # an exported graph and autograd read every activation
        self.trunk = layers
        if size == "xs":
            self.trunk_width = self.width = TRUNK_CHANNELS
            self.pool = nn.AdaptiveAvgPool2d(1)
            return
        self.trunk_width = TRUNK_CHANNELS * POOLED_SIDE**2
        self.width = FULLY_CONNECTED_WIDTH[size]
        self.pool = nn.AdaptiveAvgPool2d(POOLED_SIDE)
        self.fully_connected = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.trunk_width, self.width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
        )

    def _normalise_by(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        # On the CPU wherever the rest is: a model that is about to be loaded is built on "meta".
        for name, values in (("mean", mean), ("deviation", deviation)):
            channels = 255 * torch.tensor(values, device="cpu").view(1, 3, 1, 1)
            self.register_buffer(name, channels, persistent=False)

    def trunk_features(self, pixels: Tensor) -> Tensor:
        """What `freeze_backbone` keeps: `(B, trunk_width)` of pixels `(B, 3, H, W)`.

        AlexNet's pooled convolutions, or all of another model before its classifier.
        """
        scaled = self._normalised(self._resized(pixels.to(self.mean.dtype)))
        features: Tensor = self.pool(self.trunk(scaled)).flatten(1)
        return features

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features `(B, width)` of pixels `(B, 3, H, W)`, uint8 or float in [0, 255]."""
        features: Tensor = self.fully_connected(self.trunk_features(pixels))
        return features

    def _normalised(self, pixels: Tensor) -> Tensor:
        batch, channels, height, width = pixels.shape
        channels_last = pixels.is_contiguous(memory_format=torch.channels_last)
        if not channels_last or torch.compiler.is_compiling():
            return (pixels - self.mean) / self.deviation
        # The same numbers 8 times as fast on a CPU: the colours of a pixel lie together, and torch
        # vectorises over the W x 3 numbers of a row, not over 3.
        rows = pixels.permute(0, 2, 3, 1).reshape(batch * height, width * channels)
        mean, deviation = (tensor.flatten().repeat(width) for tensor in (self.mean, self.deviation))
        scaled = (rows - mean).div_(deviation).view(batch, height, width, channels)
        return scaled.permute(0, 3, 1, 2)

    def _resized(self, pixels: Tensor) -> Tensor:
        side = pixels.shape[-1]
        wanted = max(side, self._least_side)
        if self._most_side is not None:
            wanted = min(wanted, self._most_side)
        if wanted == side:
            return pixels
        return functional.interpolate(
            pixels, (wanted, wanted), mode="bilinear", antialias=wanted < side
        )
