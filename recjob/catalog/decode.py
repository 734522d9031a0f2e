"""One picture file to white squares of pixels; whatever is wrong with it becomes a reason."""

from __future__ import annotations

import hashlib
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from recjob.catalog.picture_source import PictureSource, RefusedPictureError
from recjob.errors import one_line
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
# A JPEG is decoded at 1/2, 1/4 or 1/8 where that still leaves this many times the pixels needed: a
# photograph of 800 pixels at 400 for a square of 224, which takes a third of the time and stays
# within the loss of the JPEG itself (51 dB).
_DRAFT_FACTOR = 1.75
# Pillow first averages blocks while this factor is left for the filter (its advice: 3).
_REDUCING_GAP = 3.0


# Pixels that all threads decode at once where `DecodingRoom` is asked: at up to 8 bytes each (as
# decoded, and converted) 512 MB, however many cores and however large the pictures.
_PIXELS_AT_ONCE = 64_000_000


@dataclass(frozen=True)
class Decoded:
    """A picture's file hash and pixels, or why there are none."""

    sha256: str = ""
    squares: Mapping[int, UInt8Array] = field(default_factory=dict)
    """(size, size, 3) for each size at which the hash was not known already."""
    reason: str = ""
    """Why the picture is bad; "" where it is not."""


class DecodingRoom:
    """Bounds the memory of threads that decode: large pictures wait for each other."""

    def __init__(self, pixels: int = _PIXELS_AT_ONCE) -> None:
        self._pixels = pixels
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Room for so many pixels while the block runs; a picture above the bound runs alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep Pillow from warning on standard error of what it makes of odd files.

    A picture is used or has a reason; damaged EXIF data beside sound pixels are neither. Python's
    filters are the process's, so this is for whoever starts the threads, around all of them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        yield


def decode_file(
    source: PictureSource,
    known: Mapping[int, Set[str]],
    settings: ImageSettings,
    room: DecodingRoom | None,
    image: str,
) -> Decoded:
    """Read and hash the picture `image` of `source`, and decode it at the sizes of `known`.

    At a size where its hash is `known` it is not decoded. Never raises for a bad picture.
    """
    try:
        data = source.read(image, settings.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        sizes = [size for size, hashes in known.items() if sha256 not in hashes]
        return Decoded(sha256, decode_sizes(data, sizes, settings.max_pixels, room))
    except RefusedPictureError as refusal:
        return Decoded(reason=str(refusal))


def decode(data: bytes, size: int, max_pixels: int) -> UInt8Array:
    """(size, size, 3) the picture, turned upright, on a white square that it fills.

    Raises RefusedPictureError where it is damaged, no picture, or has more than `max_pixels`.
    """
    return decode_sizes(data, [size], max_pixels)[size]


def decode_sizes(
    data: bytes, sizes: Iterable[int], max_pixels: int, room: DecodingRoom | None = None
) -> dict[int, UInt8Array]:
    """The squares of `decode` at several sizes, each as if it were the only one.

    Sizes that need a JPEG at the same scale share its decoding.

    Raises RefusedPictureError.
    """
    try:
        drafts: dict[tuple[int, int], tuple[Image.Image, list[int]]] = {}
        for size in sizes:
            picture = _open(data)
            width, height = picture.size
            if width * height > max_pixels:
                raise RefusedPictureError(
                    f"{width} x {height} pixels are more than images.max_pixels ({max_pixels})"
                )
            _draft(picture, size)
            drafts.setdefault(picture.size, (picture, []))[1].append(size)
        squares: dict[int, UInt8Array] = {}
        for (width, height), (picture, alike) in drafts.items():
            with room.hold(width * height) if room else nullcontext():
                orientation = _orientation(picture)
                picture.load()
                coloured = _colours(picture)
                squares.update((size, _square(coloured, orientation, size)) for size in alike)
        return squares
    except (RefusedPictureError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise RefusedPictureError(f"not a picture ({', '.join(FORMATS)})") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything when a file is broken
        raise RefusedPictureError(f"damaged picture ({one_line(error)})") from None


def _open(data: bytes) -> Image.Image:
    # Pillow's own guard against bombs warns or raises at fixed sizes; images.max_pixels, checked
    # before anything is decoded, takes its place.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(BytesIO(data), formats=FORMATS)


def _draft(picture: Image.Image, size: int) -> None:
    """Let a JPEG be decoded at a smaller scale that is enough for `size`."""
    scale = _DRAFT_FACTOR * size / max(picture.size)
    if scale < 1:
        picture.draft(None, (int(picture.width * scale) + 1, int(picture.height * scale) + 1))


def _square(coloured: Image.Image, orientation: int, size: int) -> UInt8Array:
    longest = max(coloured.size)
    width, height = (max(1, round(side * size / longest)) for side in coloured.size)
    resized = coloured
    if coloured.size != (width, height):
        resized = coloured.resize(
            (width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP
        )
    if orientation in _TURNS:
        resized = resized.transpose(_TURNS[orientation])
    if resized.mode == "RGB" and resized.size == (size, size):
        return np.asarray(resized)
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
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where the EXIF data are missing or broken."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1
