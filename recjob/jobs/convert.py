"""Convert data sets: to and from the import format, CSV or Parquet, and Polyvore-U."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from recjob.catalog.picture_copies import copy_pictures
from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.polyvore_writer import write_polyvore
from recjob.catalog.table_parts import with_parts
from recjob.catalog.table_writer import write_tables
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import UserError
from recjob.jobs.progress import progress_bar
from recjob.jobs.stages import disk_errors_told
from recjob.settings import Settings

SourceKind = Literal["tables", "polyvore"]
TargetKind = Literal["csv", "parquet", "polyvore"]


class UncopiedPicture(BaseModel):
    """A picture that the new folder lacks, and why."""

    model_config = ConfigDict(frozen=True)

    image: str
    reason: str


class ConvertResult(BaseModel):
    """What the new folder holds, in rows."""

    model_config = ConfigDict(frozen=True)

    items: int
    outfits: int
    interactions: int
    negatives: int
    pictures: int
    missing_pictures: tuple[UncopiedPicture, ...]


def convert(
    source: Path,
    target: Path,
    source_kind: SourceKind,
    target_kind: TargetKind,
    users: int | None,
    link: bool,
    settings: Settings,
) -> ConvertResult:
    """Read and check `source`, and write it as the new folder `target`, whole or not at all.

    `users` names the set of Polyvore-U (`tuples_<users>`) that is read or written. With `link`,
    pictures that are files become hard links; otherwise, and from LMDB, they are copied. A picture
    that cannot be had is left out and told. Polyvore-U's layout consists of parts: data that name
    none get those of `settings.split`.

    Raises DataError with the first mistake in `source` or what the target cannot hold, UserError
    where `target` is there already.
    """
    _refuse_options(source_kind, target_kind, users)
    with disk_errors_told(target), _new_folder(target) as folder:
        tables = _read(source, source_kind, users, settings)
        if target_kind == "polyvore":
            tables = with_parts(tables, settings.split)
            names = write_polyvore(tables, folder, users)
        else:
            write_tables(tables, folder, target_kind)
            names = {image: image for image in tables.items["image"].to_pylist() if image}
        in_folder = isinstance(tables.pictures, FolderPictures)
        with progress_bar("pictures", len(names)) as bar:
            missing = copy_pictures(
                tables.pictures,
                names,
                folder,
                settings.images,
                link_from=tables.folder if link and in_folder else None,
                on_progress=lambda done: bar.to(done, len(names)),
            )
    return ConvertResult(
        items=tables.items.num_rows,
        outfits=tables.outfits.num_rows,
        interactions=tables.interactions.num_rows,
        negatives=tables.negatives.num_rows,
        pictures=len(names) - len(missing),
        missing_pictures=tuple(
            UncopiedPicture(image=picture.image, reason=picture.reason) for picture in missing
        ),
    )


def _refuse_options(source_kind: SourceKind, target_kind: TargetKind, users: int | None) -> None:
    if source_kind == target_kind:
        raise UserError("--from polyvore --to polyvore would change nothing; copy the folder")
    if source_kind == "polyvore" and users is None:
        raise UserError("--from polyvore needs --users: 630, 519, 53 or 32")
    if "polyvore" not in (source_kind, target_kind) and users is not None:
        raise UserError("--users belongs to polyvore; leave it out")


def _read(source: Path, kind: SourceKind, users: int | None, settings: Settings) -> FolderTables:
    if kind == "tables":
        return read_folder(source, settings.catalog)
    assert users is not None
    return read_polyvore(source, users)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the block ends well, and is gone if not.

    Raises UserError where `target` is a file, or a folder with something in it.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: is there already; name a new folder")
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target}: is not empty; name a new folder")
    whole = target.absolute()
    unfinished = whole.with_name(f".{whole.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(whole)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
