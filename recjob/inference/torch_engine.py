"""The model itself, in torch: runs everywhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from recjob.inference.engine import BoolArray, Float32Array, UInt8Array
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender, pixels_to_channels_first


class TorchEngine:
    """An engine on `device`. With `bf16` the pictures are encoded in bfloat16 autocast.

    The Set Transformer always runs in float32: it is small, and the scores are its output. The
    model is moved to `device` and set to evaluation mode; otherwise it is left as it is.
    """

    def __init__(self, model: OutfitRecommender, device: torch.device | str, bf16: bool) -> None:
        self._device = torch.device(device)
        self._model = model.to(self._device).eval()
        self._bf16 = bf16

    @property
    def name(self) -> str:
        """Device and precision."""
        return f"torch {self._device.type} {'bf16' if self._bf16 else 'fp32'}"

    @torch.inference_mode()
    def encode_items(self, pixels: UInt8Array) -> Float32Array:
        """Item features `(B, 128)` of pictures `(B, H, W, 3)`, 0 to 255."""
        if len(pixels) == 0:
            return np.zeros((0, FEATURE_DIM), np.float32)
        # Pictures are stored channels last, which is also what convolutions on CPUs and tensor
        # cores like best; the view keeps that layout through the network.
        images = pixels_to_channels_first(self._tensor(pixels))
        with self._autocast():
            features = self._model.encode_items(images)
        return _array(features)

    @torch.inference_mode()
    def encode_outfits(self, features: Float32Array, mask: BoolArray) -> Float32Array:
        """Outfit vectors `(B, 128)` of features `(B, M, 128)` and mask `(B, M)`."""
        if len(mask) == 0:
            return np.zeros((0, FEATURE_DIM), np.float32)
        return _array(self._model.encode_outfits(self._tensor(features), self._tensor(mask)))

    def _tensor(self, array: np.ndarray) -> Tensor:
        # torch wants memory that it could write to; a slice of a packed file is read-only.
        writable = array if array.flags.writeable else array.copy()
        return torch.from_numpy(np.ascontiguousarray(writable)).to(self._device)

    def _autocast(self) -> AbstractContextManager[object]:
        if not self._bf16:
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def _array(tensor: Tensor) -> Float32Array:
    array: Float32Array = tensor.float().cpu().numpy()
    return array
