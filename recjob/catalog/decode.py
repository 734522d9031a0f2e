"""One picture file to one white square of pixels; whatever is wrong with it becomes a reason."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Set
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from recjob.catalog.picture_source import PictureSource, RefusedPictureError
from recjob.settings import ImageSettings

UInt8Array = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is accepted; Pillow's rarer decoders are not offered to files from outside."""

_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A JPEG is decoded at 1/2, 1/4 or 1/8 where that still leaves this many times the pixels needed.
_DRAFT_FACTOR = 2
# Pillow first averages blocks while this factor is left for the filter (its advice: 3).
_REDUCING_GAP = 3.0


@dataclass(frozen=True)
class Decoded:
    """A picture's file hash and pixels, or why there are none."""

    sha256: str = ""
    pixels: UInt8Array | None = None
    """(size, size, 3); None where the hash was known already."""
    reason: str = ""
    """Why the picture is bad; "" where it is not."""


def decode_file(
    source: PictureSource, size: int, settings: ImageSettings, known: Set[str], image: str
) -> Decoded:
    """Read, hash and decode the picture `image` of `source`.

    A picture whose hash is `known` is not decoded. Never raises for a bad picture.
    """
    try:
        data = source.read(image, settings.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in known:
            return Decoded(sha256)
        return Decoded(sha256, decode(data, size, settings.max_pixels))
    except RefusedPictureError as refusal:
        return Decoded(reason=str(refusal))


def decode(data: bytes, size: int, max_pixels: int) -> UInt8Array:
    """(size, size, 3) the picture, turned upright, on a white square that it fills.

    Raises RefusedPictureError where it is damaged, no picture, or has more than `max_pixels`.
    """
    try:
        with _open(data) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise RefusedPictureError(
                    f"{width} x {height} pixels are more than images.max_pixels ({max_pixels})"
                )
            return _square(picture, size)
    except (RefusedPictureError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise RefusedPictureError(f"not a picture ({', '.join(FORMATS)})") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything when a file is broken
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise RefusedPictureError(f"damaged picture ({reason})") from None


def _open(data: bytes) -> Image.Image:
    # Pillow's own guard against bombs warns or raises at fixed sizes; images.max_pixels, checked
    # before anything is decoded, takes its place.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(BytesIO(data), formats=FORMATS)


def _square(picture: Image.Image, size: int) -> UInt8Array:
    orientation = _orientation(picture)
    longest = max(picture.size)
    scale = _DRAFT_FACTOR * size / longest
    if scale < 1:
        picture.draft(None, (int(picture.width * scale) + 1, int(picture.height * scale) + 1))
    coloured = _colours(picture)
    longest = max(coloured.size)
    width, height = (max(1, round(side * size / longest)) for side in coloured.size)
    resized = coloured.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    if orientation in _TURNS:
        resized = resized.transpose(_TURNS[orientation])
    square = Image.new("RGB", (size, size), _WHITE)
    corner = ((size - resized.width) // 2, (size - resized.height) // 2)
    square.paste(resized, corner, resized if resized.mode == "RGBA" else None)
    return np.asarray(square)


def _colours(picture: Image.Image) -> Image.Image:
    """The picture as RGB, or as RGBA where it has transparency."""
    if picture.mode.startswith("I;16"):
        # Pillow would clip the 16 bits at 255 instead of scaling them.
        high = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if picture.mode in ("I", "F"):
        raise RefusedPictureError(
            f"pixels of kind {picture.mode} have no fixed range; save it with 8 bits"
        )
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where the EXIF data are missing or broken."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1
