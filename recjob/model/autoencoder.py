"""Convolutional autoencoder whose latent neighbours serve *replace* (Sec. 3.3.2).

The paper leaves its form open. The encoder is the recommender's own trunk, so that where no
ImageNet weights are at hand it can start the recommender.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from recjob.model.backbone import TRUNK_CHANNELS, Backbone

LATENT_SIDE: Final = 2
"""The trunk's feature map is pooled to 2 x 2: shape survives, not only colour."""
DECODER_CHANNELS: Final = (256, 128, 64, 32)
"""Channels of the decoder's stages, each of which doubles the side."""


class Autoencoder(nn.Module):
    """`(B, 3, S, S)` pixels to a latent `(B, latent_dim)` and back to `(B, 3, S, S)` in [0, 1]."""

    def __init__(self, image_size: int, latent_dim: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.latent_dim = latent_dim
        scale = 2 ** len(DECODER_CHANNELS)
        if image_size % scale:
            raise ValueError(f"image_size must be a multiple of {scale}, got {image_size}")
        side = image_size // scale
        self.backbone = Backbone("xs")
        self.backbone.pool = nn.AdaptiveAvgPool2d(LATENT_SIDE)
        self.to_latent = nn.Linear(TRUNK_CHANNELS * LATENT_SIDE**2, latent_dim)
        stages: list[nn.Module] = [
            nn.Linear(latent_dim, DECODER_CHANNELS[0] * side**2),
            nn.ReLU(),
            nn.Unflatten(1, (DECODER_CHANNELS[0], side, side)),
        ]
        for width, following in zip(DECODER_CHANNELS, (*DECODER_CHANNELS[1:], 3), strict=True):
            stages += [
                nn.ConvTranspose2d(width, following, kernel_size=4, stride=2, padding=1),
                nn.Sigmoid() if following == 3 else nn.ReLU(),
            ]
        self.decoder = nn.Sequential(*stages)

    def encode(self, pixels: Tensor) -> Tensor:
        """Latent `(B, latent_dim)` of pixels `(B, 3, S, S)` in [0, 255]."""
        latent: Tensor = self.to_latent(self.backbone(pixels))
        return latent

    def forward(self, pixels: Tensor) -> Tensor:
        """Reconstruction `(B, 3, S, S)` in [0, 1]."""
        reconstruction: Tensor = self.decoder(self.encode(pixels))
        return reconstruction
