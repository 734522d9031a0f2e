"""Both sides of `bench images`: an import, and Pillow alone; some in processes of their own.

Little is imported here, so that such a process starts fast and its memory is that of its work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from recjob.catalog.images import ImageReport, PackedImages
from recjob.catalog.picture_source import FolderPictures
from recjob.errors import DataError
from recjob.monitoring.memory import MemoryMonitor
from recjob.settings import ImageSettings

DRAFT: Final = 1.75
"""As packing: a JPEG is decoded at 1/2, 1/4 or 1/8 while so many times the pixels are left."""
REDUCING_GAP: Final = 3.0
"""As packing: what Pillow recommends."""
WHITE: Final = (255, 255, 255)


def pack(store: Path, folder: Path, names: list[str], options: ImageSettings) -> ImageReport:
    """Ours: pack the pictures `names` of a folder.

    Raises DataError where one of them cannot be used.
    """
    source = FolderPictures(folder)
    report = PackedImages.open(store, options.size).add(source, names, options)
    for bad in report.bad:
        raise DataError(f"{folder / bad.image}: {bad.reason}; give a folder without bad pictures")
    return report


def peak_of_pack(store: Path, folder: Path, names: list[str], options: ImageSettings) -> int:
    """Peak resident bytes of this process while it packs."""
    with MemoryMonitor() as monitor, monitor.measure() as peak:
        pack(store, folder, names, options)
    return peak.memory_bytes


def pillow_square(path: Path, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) the picture on white, by the same filter at the same scale as packing."""
    with Image.open(path) as picture:
        share = DRAFT * size / max(picture.size)
        if share < 1:
            picture.draft(None, (int(picture.width * share) + 1, int(picture.height * share) + 1))
        coloured = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        longest = max(coloured.size)
        sides = [max(1, round(side * size / longest)) for side in coloured.size]
        small = coloured.resize(
            (sides[0], sides[1]), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP
        )
        upright = ImageOps.exif_transpose(small)
    square = Image.new("RGB", (size, size), WHITE)
    corner = ((size - upright.width) // 2, (size - upright.height) // 2)
    square.paste(upright, corner, upright if upright.mode == "RGBA" else None)
    return np.asarray(square)


def decode_and_drop(paths: list[Path], size: int) -> int:
    """Decode the pictures and drop them; how many."""
    for path in paths:
        pillow_square(path, size)
    return len(paths)
