"""The packed pictures of this home; no torch, so that an import does not load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recjob.catalog.catalog import Catalog, Int64Array
from recjob.catalog.images import PackedImages
from recjob.jobs.home import IMAGES_FOLDER
from recjob.settings import Settings
from recjob.store.artifacts import Role


@dataclass(frozen=True)
class PicturedCatalog:
    """A catalog and its packed pictures."""

    catalog: Catalog
    pictures: PackedImages
    picture_rows: Int64Array
    """(n_items,) row of `pictures.pixels`, -1 for items in quarantine."""


def picture_size(settings: Settings, role: Role) -> int:
    """Side in pixels of the pictures that a teacher or student of the settings sees."""
    own = settings.teacher.image_size if role == "teacher" else 0
    return own or settings.images.size


def picture_sizes(settings: Settings) -> tuple[int, ...]:
    """Every size that the settings name, ascending: an import packs them all."""
    return tuple(sorted({picture_size(settings, "teacher"), picture_size(settings, "student")}))


def pictures_folder(settings: Settings, size: int) -> Path:
    """Where the packed pictures of `size` pixels lie."""
    return settings.home / IMAGES_FOLDER / str(size)


def open_pictures(settings: Settings, size: int | None = None) -> PackedImages:
    """The packed pictures of `size` pixels, by default of the size that the settings ask for."""
    size = size or settings.images.size
    return PackedImages.open(pictures_folder(settings, size), size)


def with_pictures(catalog: Catalog, pictures: PackedImages) -> PicturedCatalog:
    """Find each item's picture; DataError where one is missing."""
    rows = np.full(catalog.n_items, -1, np.int64)
    usable = np.flatnonzero(catalog.item_usable)
    rows[usable] = pictures.rows([catalog.item_image[item] for item in usable])
    return PicturedCatalog(catalog, pictures, rows)
