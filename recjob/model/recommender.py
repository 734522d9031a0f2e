"""The recommender of Fig. 3: pictures to item features to an outfit vector, and users."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from recjob.model.backbone import Backbone, ModelSize
from recjob.model.set_transformer import SetTransformer
from recjob.model.torchvision_trunk import ALEXNET

FEATURE_DIM: Final = 128
"""d of the paper (Sec. 4.1.4)."""
HEADS: Final = 8
"""h of the paper (Sec. 4.1.4)."""


class OutfitRecommender(nn.Module):
    """Teacher ("large") or student ("xs", "s", "m").

    The preference score of a user for an outfit is the cosine of their vectors (Eq. 9).

    Args:
        size: of AlexNet (Table 5); another backbone has one size.
        n_users: number of user vectors.
        dropout: in AlexNet's fully connected layers.
        backbone: "alexnet", or a classification model of torchvision.

    Raises SettingsError for a backbone that torchvision does not have.
    """

    def __init__(
        self, size: ModelSize, n_users: int, dropout: float = 0.5, backbone: str = ALEXNET
    ) -> None:
        super().__init__()
        self.size = size
        self.backbone = Backbone(size, dropout, backbone)
        width = self.backbone.width
        self.head = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, FEATURE_DIM)
        )
        self.set_transformer = SetTransformer(FEATURE_DIM, HEADS)
        self.users = nn.Embedding(n_users, FEATURE_DIM)
        nn.init.normal_(self.users.weight, std=FEATURE_DIM**-0.5)  # unit length on average

    @property
    def n_users(self) -> int:
        """Number of user vectors."""
        return self.users.num_embeddings

    def encode_items(self, pixels: Tensor) -> Tensor:
        """Item features `(B, 128)` of pixels `(B, 3, H, W)`, uint8 or float in [0, 255]."""
        features: Tensor = self.head(self.backbone(pixels))
        return features

    def encode_trunk_features(self, trunk_features: Tensor) -> Tensor:
        """Item features `(B, 128)` of what `backbone.trunk_features` gave, `(B, trunk_width)`."""
        features: Tensor = self.head(self.backbone.fully_connected(trunk_features))
        return features

    def encode_outfits(self, features: Tensor, mask: Tensor) -> Tensor:
        """Outfit vectors `(B, 128)`, not normalised, of item features `(B, M, 128)`.

        `mask (B, M)` is True where there is an item.
        """
        outfits: Tensor = self.set_transformer(features, mask)
        return outfits

    def forward(self, users: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
        """Scores `(B,)` (Eq. 9) of users `(B,)` for outfits `(B, M, 3, H, W)`, mask `(B, M)`."""
        batch, n_items = mask.shape
        features = self.encode_items(pixels.flatten(0, 1)).view(batch, n_items, FEATURE_DIM)
        outfits = self.encode_outfits(features, mask)
        return functional.cosine_similarity(self.users(users), outfits, dim=-1)


class ContrastiveProjection(nn.Module):
    """g of Sec. 3.3: used by the contrastive loss in training only, not at inference."""

    def __init__(self, dim: int = FEATURE_DIM) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, outfits: Tensor) -> Tensor:
        """`(B, d)` to `(B, d)`."""
        projected: Tensor = self.layers(outfits)
        return projected


def unit(vectors: Tensor) -> Tensor:
    """Vectors `(..., d)` scaled to length 1; a zero vector stays zero."""
    return functional.normalize(vectors, dim=-1)


def pixels_to_channels_first(pixels: Tensor) -> Tensor:
    """`(B, H, W, 3)` as `(B, 3, H, W)` in channels-last memory, without a copy."""
    return torch.permute(pixels, (0, 3, 1, 2))
