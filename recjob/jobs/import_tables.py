"""Job `import tables FOLDER`: the import format into the catalog and the packed pictures."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from recjob.catalog.given_negatives import liked_negatives
from recjob.catalog.images import ImageReport, pack_sizes
from recjob.catalog.tables import FolderTables, read_folder
from recjob.jobs.pictures import open_pictures, picture_sizes
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.settings import SnapshotSettings
from recjob.store.catalog_import import ImportCounts, TableCounts, write_tables
from recjob.store.catalog_store import known_items, known_outfits
from recjob.store.forgotten import LeftOut, without_forgotten
from recjob.store.mentions import naming_no_forgotten
from recjob.store.snapshot import Withdrawal

log = logging.getLogger(__name__)


class BadPicture(BaseModel):
    """An item that went into quarantine, and why."""

    model_config = ConfigDict(frozen=True)

    item: str
    image: str
    reason: str


class RowCounts(BaseModel):
    """What the import did to one table, in rows of the folder."""

    model_config = ConfigDict(frozen=True)

    added: int
    updated: int
    unchanged: int


class SnapshotCounts(BaseModel):
    """What an export that is all that the shop has did to the availability of what it lacks."""

    model_config = ConfigDict(frozen=True)

    items_withdrawn: int
    """Were available, and are not in the folder."""
    items_returned: int
    """Were not available, and are again."""
    outfits_withdrawn: int
    outfits_returned: int


class ForgottenRows(BaseModel):
    """Rows of the folder that were left out: their users asked to be forgotten."""

    model_config = ConfigDict(frozen=True)

    users: int
    interactions: int
    negatives: int


class ImportResult(JobResult):
    """What an import did."""

    items: RowCounts
    outfits: RowCounts
    interactions: RowCounts
    users: RowCounts
    negatives: int
    """Negatives of the data's own evaluation that were stored."""
    negatives_left_out: int
    """Those that their user likes, which data sets draw now and then."""
    pictures_decoded: int
    quarantined: tuple[BadPicture, ...]
    snapshot: SnapshotCounts | None = None
    """None where the folder was not taken for all that the shop has."""
    forgotten: ForgottenRows


def import_tables(context: JobContext, folder: Path, snapshot: bool = False) -> ImportResult:
    """Check everything, decode the pictures, then write the catalog in one transaction.

    A bad picture quarantines its item and the job goes on; anything else that is wrong raises
    DataError with file, line and column, and nothing is imported. With `snapshot` the folder is all
    that the shop has: items and outfits that it lacks become unavailable.

    Raises RefusedError where a snapshot lacks more than [snapshot] allows.
    """
    settings = context.settings
    context.freeze(folder=str(folder.resolve()), snapshot=snapshot)
    with (
        context.stage("check"),
        context.database.connect() as connection,
        naming_no_forgotten(connection),
    ):
        tables = read_folder(
            folder, settings.catalog, known_items(connection), known_outfits(connection)
        )
    return import_checked(context, tables, settings.snapshot if snapshot else None)


def import_checked(
    context: JobContext, tables: FolderTables, snapshot: SnapshotSettings | None = None
) -> ImportResult:
    """What every import does after its check: pack the pictures, then write the catalog.

    Rows of forgotten users are left out. `snapshot`: limits of a folder that is all there is.
    """
    with context.database.connect() as connection:
        tables, forgotten = without_forgotten(connection, tables)
    liked = liked_negatives(tables)
    if liked.any():
        log.warning(
            "%s: %d of %d negatives are positives of the same user; left out",
            tables.folder,
            liked.sum(),
            liked.size,
        )
        tables = replace(tables, negatives=tables.negatives.filter(pa.array(~liked)))
    with context.stage("pictures") as stage:
        report = _pack(context, tables)
        stage.items = len(report.hashes)
    bad = {picture.image: picture.reason for picture in report.bad}
    with context.stage("write") as stage, context.database.begin() as connection:
        counts = write_tables(connection, tables, report.hashes, bad, snapshot)
        stage.items = sum(
            table.num_rows for table in (tables.items, tables.outfits, tables.interactions)
        )
    items, images = tables.items["item_id"].to_pylist(), tables.items["image"].to_pylist()
    return ImportResult(
        items=_row_counts(counts.items),
        outfits=_row_counts(counts.outfits),
        interactions=_row_counts(counts.interactions),
        users=_row_counts(counts.users),
        negatives=tables.negatives.num_rows,
        negatives_left_out=int(liked.sum()),
        pictures_decoded=report.added,
        quarantined=tuple(
            BadPicture(item=item, image=image, reason=bad[image])
            for item, image in zip(items, images, strict=True)
            if image in bad
        ),
        snapshot=None if snapshot is None else _snapshot_counts(counts),
        forgotten=_forgotten_rows(forgotten),
    )


def _pack(context: JobContext, tables: FolderTables) -> ImageReport:
    """Each file is decoded once for all the sizes that the settings name."""
    settings = context.settings
    images = tables.items["image"].to_pylist()
    with progress_bar("pictures", len(images)) as bar:
        return pack_sizes(
            [open_pictures(settings, size) for size in picture_sizes(settings)],
            tables.pictures,
            images,
            settings.images,
            lambda done: bar.to(done, len(images)),
        )


def _snapshot_counts(counts: ImportCounts) -> SnapshotCounts:
    nothing = Withdrawal(0, 0)
    items = counts.items_withdrawn or nothing
    outfits = counts.outfits_withdrawn or nothing
    return SnapshotCounts(
        items_withdrawn=items.withdrawn,
        items_returned=items.returned,
        outfits_withdrawn=outfits.withdrawn,
        outfits_returned=outfits.returned,
    )


def _forgotten_rows(left: LeftOut) -> ForgottenRows:
    return ForgottenRows(users=left.users, interactions=left.interactions, negatives=left.negatives)


def _row_counts(counts: TableCounts) -> RowCounts:
    return RowCounts(added=counts.added, updated=counts.updated, unchanged=counts.unchanged)
