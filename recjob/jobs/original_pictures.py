"""Pictures of items for people: from the imported files, which are sharper than the packed ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recjob.catalog.decode import UInt8Array, decode_file, quiet_decoders
from recjob.catalog.picture_source import FolderPictures
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.settings import ImageSettings
from recjob.store.catalog_store import item_images
from recjob.store.database import Database
from recjob.store.ledger import import_folders

FOLDERS: Final = 8
"""Imported folders that are looked into, the newest first: a picture in none of them is old."""


@dataclass(frozen=True)
class OriginalPictures:
    """Finds the picture file of an item again; known by its content, it cannot be another one."""

    database: Database
    shop: Shop
    folders: tuple[str, ...]
    settings: ImageSettings
    side: int

    @classmethod
    def of(cls, context: JobContext, shop: Shop, side: int) -> OriginalPictures:
        """The pictures of a shop, as squares of `side` pixels where the files are still there."""
        with context.database.connect() as connection:
            folders = import_folders(connection, FOLDERS)
        present = tuple(folder for folder in folders if Path(folder).is_dir())
        return cls(context.database, shop, present, context.settings.images, side)

    def pixels(self, item: int) -> UInt8Array:
        """(S, S, 3) the picture of a usable item, at worst the packed one."""
        packed: UInt8Array = self.shop.pictures.pixels[self.shop.picture_rows[item]]
        if len(packed) >= self.side:
            return packed
        item_id = self.shop.catalog.item_ids[item]
        with self.database.connect() as connection:
            image = item_images(connection, [item_id])[item_id]
        for folder in self.folders:
            source = FolderPictures(Path(folder))
            with quiet_decoders():
                found = decode_file(source, {self.side: frozenset()}, self.settings, None, image)
            if found.sha256 == self.shop.catalog.item_image[item]:
                return found.squares[self.side]
        return packed
