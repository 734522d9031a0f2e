"""Small pictures for a page."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITY = 85
"""Of the JPEG, out of 95: above it files grow and garments on white look the same."""

WHITE = 244
"""A pixel whose three channels reach this is background; JPEG leaves noise in white."""
MIN_SHARE = 0.01
"""A row or column with a smaller share of garment is border: specks do not count."""


def jpeg(pixels: NDArray[np.uint8], side: int) -> bytes:
    """`pixels` (H, W, 3) as a JPEG without its white border.

    Its longer side is at most `side` pixels; a smaller picture is not enlarged.
    """
    picture = Image.fromarray(np.ascontiguousarray(_without_border(pixels)))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _without_border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    garment = (pixels < WHITE).any(axis=2)
    rows = np.flatnonzero(garment.mean(axis=1) > MIN_SHARE)
    columns = np.flatnonzero(garment.mean(axis=0) > MIN_SHARE)
    if not rows.size or not columns.size:
        return pixels  # all white: nothing to crop to
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
