"""The image trunk: AlexNet in the four sizes of the paper (Sec. 4.1.4, 4.7)."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torchvision.models import alexnet

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

    "xs" is AlexNet-small: no fully connected layer, global average pooling (width 256). The other
    sizes keep fc6 and fc7 with dropout. Pixels are scaled and normalised here, so that no caller
    (nor an exported engine) can forget it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: ModelSize, dropout: float = 0.5) -> None:
        super().__init__()
        # On the CPU wherever the rest is: a model that is about to be loaded is built on "meta".
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            channels = 255 * torch.tensor(values, device="cpu").view(1, 3, 1, 1)
            self.register_buffer(name, channels, persistent=False)
        self.trunk = alexnet().features
        for layer in self.trunk:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # an exported graph and autograd read every activation
        self.fully_connected: nn.Module
        if size == "xs":
            self.width = TRUNK_CHANNELS
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fully_connected = nn.Identity()
        else:
            self.width = FULLY_CONNECTED_WIDTH[size]
            self.pool = nn.AdaptiveAvgPool2d(POOLED_SIDE)
            self.fully_connected = nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(TRUNK_CHANNELS * POOLED_SIDE**2, self.width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(self.width, self.width),
                nn.ReLU(),
            )

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features `(B, width)` of pixels `(B, 3, H, W)`, uint8 or float in [0, 255]."""
        scaled = (pixels.to(self.mean.dtype) - self.mean) / self.deviation
        features: Tensor = self.fully_connected(self.pool(self.trunk(scaled)).flatten(1))
        return features
