"""Small students for the tests of this folder."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recjob.model.backbone import ModelSize
from recjob.model.recommender import OutfitRecommender
from recjob.settings import CompileSettings

SIDE = 64
FP32 = CompileSettings(max_batch=4, optimal_batch=2, max_items=6)
FP16 = FP32.model_copy(update={"precision": "fp16", "tolerance": 5e-3})
DIM = 128


def student(size: ModelSize = "xs", seed: int = 0) -> OutfitRecommender:
    """Random weights; without biases, so that features depend on pictures as a trained model's."""
    torch.manual_seed(seed)
    model = OutfitRecommender(size, n_users=3)
    for module in (*model.backbone.modules(), *model.head.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def pictures(n: int, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Coarse random patches: unlike noise, they look different to a convolution."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, side // 16, side // 16, 3))
    return coarse.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)


def features(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(*shape, DIM)).astype(np.float32)


def naive_features(model: OutfitRecommender, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The item encoder in float64, from plain calls of torch."""
    x = torch.from_numpy(images.astype(np.float64) / 255).permute(0, 3, 1, 2)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    x = (x - mean) / deviation
    for layer, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        kernel, bias = (weights[f"backbone.trunk.{layer}.{part}"] for part in ("weight", "bias"))
        x = nn.functional.conv2d(x, kernel, bias, stride, padding).relu()
        if layer in (0, 3, 10):
            x = nn.functional.max_pool2d(x, 3, 2)
    x = x.mean(dim=(2, 3))
    x = (x @ weights["head.0.weight"].T + weights["head.0.bias"]).relu()
    x = x @ weights["head.2.weight"].T + weights["head.2.bias"]
    return np.asarray(x.numpy(), np.float64)


def distance(found: NDArray[np.float32], expected: NDArray[np.float64 | np.float32]) -> float:
    """Largest distance between the unit vectors of the rows."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (found, expected))
    return float(np.linalg.norm(a - b, axis=-1).max())
