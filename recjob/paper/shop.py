"""The data of a study: tables, packed pictures (decoded once), and the newcomers beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from recjob.catalog.catalog import Catalog, Int64Array
from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.images import PackedImages
from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError
from recjob.settings import Settings

IMAGES_FOLDER: Final = "images"
COLD_SUFFIX: Final = "-cold"
"""The newcomers of FOLDER are looked for in FOLDER-cold."""

COLD_USERS: Final = {630: 53, 519: 32}
"""The newcomers of a set of Polyvore-U are another set of it, in the same folder (Sec. 4.3)."""
POLYVORE_HOME: Final = "tuples_{}"

Progress = Callable[[int, int, str], None]
"""Told (done, in all, a word on how it goes)."""
ProgressFactory = Callable[[str], AbstractContextManager[Progress]]
"""Makes the progress of a piece of work with a name."""


@dataclass(frozen=True)
class Source:
    """Where the data of a study come from."""

    folder: Path
    users: int | None = None
    """U of Polyvore-U, where the folder is in its layout; else it is in the import format."""
    cold: Path | None = None
    """Folder of the newcomers, in the import format; None: FOLDER-cold where it exists, or the
    set of Polyvore-U that belongs to `users`."""

    @property
    def cold_folder(self) -> Path | None:
        """The newcomers' folder in the import format, or None where there is none."""
        if self.cold is not None:
            return self.cold
        beside = self.folder.with_name(self.folder.name + COLD_SUFFIX)
        return beside if beside.is_dir() else None


@dataclass(frozen=True)
class Shop:
    """A catalog and its pictures in one size."""

    catalog: Catalog
    pictures: PackedImages
    picture_rows: Int64Array
    """(n_items,) row of `pictures.pixels`, -1 for items in quarantine."""


@dataclass(frozen=True)
class Newcomers:
    """Cold starters: users and outfits of their own, over the shop's items and perhaps more."""

    student: Shop
    """With pictures of `images.size`."""
    teacher: Shop
    """With pictures of `teacher.image_size`."""


def teacher_size(settings: Settings) -> int:
    """Side in pixels of the pictures that the teacher sees."""
    return settings.teacher.image_size or settings.images.size


def read_tables(source: Source, settings: Settings) -> tuple[FolderTables, FolderTables | None]:
    """The checked tables of the data, and of the newcomers with every item that they may wear.

    Raises DataError that names the folder, file and row of the first mistake.
    """
    tables = (
        read_folder(source.folder, settings.catalog)
        if source.users is None
        else read_polyvore(source.folder, source.users)
    )
    cold = source.cold_folder
    others = COLD_USERS.get(source.users or 0)
    if cold is None and others and (source.folder / POLYVORE_HOME.format(others)).is_dir():
        return tables, read_polyvore(source.folder, others)
    if cold is None:
        return tables, None
    known = tables.items["item_id"].to_pylist()
    newcomers = read_folder(cold, settings.catalog, known_items=known)
    if newcomers.items.num_rows:
        raise DataError(
            f"{cold}: newcomers wear the items of {source.folder}; leave its items out, or put "
            "them there"
        )
    return tables, replace(newcomers, items=tables.items, pictures=tables.pictures)


def pack(
    tables: FolderTables,
    out: Path,
    size: int,
    settings: Settings,
    progress: ProgressFactory,
) -> Shop:
    """The catalog of tables with its pictures; those that are new are decoded and packed."""
    images = tables.items["image"].to_pylist()
    pictures = PackedImages.open(out / IMAGES_FOLDER / str(size), size)
    with progress(f"pictures of {size} pixels") as told:
        report = pictures.add(
            tables.pictures, images, settings.images, lambda done: told(done, len(images), "")
        )
    catalog = to_catalog(tables, report.hashes)
    rows = np.full(catalog.n_items, -1, np.int64)
    usable = np.flatnonzero(catalog.item_usable)
    rows[usable] = pictures.rows([catalog.item_image[item] for item in usable])
    return Shop(catalog, pictures, rows)
