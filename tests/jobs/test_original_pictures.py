"""People see the imported picture files, and never another picture than the item's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from recjob.catalog.decode import UInt8Array
from recjob.jobs.import_tables import import_tables
from recjob.jobs.original_pictures import OriginalPictures
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import read_shop
from recjob.settings import ImageSettings, Settings
from recjob.store.database import Database

SIDE = 96


def write_item(folder: Path, pixels: UInt8Array) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("item_id,category,image\ni1,top,i1.png\n")
    Image.fromarray(pixels).save(folder / "i1.png")


def shown(database: Database, settings: Settings) -> UInt8Array:
    found: list[UInt8Array] = []

    def body(context: JobContext) -> JobResult:
        shop = read_shop(context)
        found.append(np.array(OriginalPictures.of(context, shop, SIDE).pixels(0)))
        return JobResult()

    run_job("report", database, settings, body)
    return found[0]


def test_the_file_while_it_is_there_and_the_same_else_the_packed_one(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    settings = database_settings.model_copy(update={"images": ImageSettings(size=64)})
    fine = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        write_item(folder, fine)
        run_job("import", database, settings, partial(import_tables, folder=folder))

    assert np.array_equal(shown(database, settings), fine)
    write_item(second, 255 - fine)  # another picture under the same name
    assert np.array_equal(shown(database, settings), fine)
    (first / "i1.png").unlink()
    assert shown(database, settings).shape == (64, 64, 3)
