"""What an engine is: something that turns pixels into features and features into outfit vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


class Engine(Protocol):
    """A model that runs somewhere. Every engine passes the one contract test of the test suite.

    Batches may have any length, 0 too. What comes out for a row depends on that row only (not on
    the batch), not on the order of an outfit's items, and not on what masked places hold.
    """

    @property
    def name(self) -> str:
        """What runs where and in what precision, for logs: "torch cpu bf16"."""
        ...

    def encode_items(self, pixels: UInt8Array) -> Float32Array:
        """Item features `(B, 128)` of pictures `(B, H, W, 3)`, 0 to 255."""
        ...

    def encode_outfits(self, features: Float32Array, mask: BoolArray) -> Float32Array:
        """Outfit vectors `(B, 128)`, not normalised, of item features `(B, M, 128)`.

        `mask (B, M)` is True where there is an item; every outfit needs at least one.
        """
        ...
