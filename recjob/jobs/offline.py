"""Training from a folder to a folder, on a machine with torch and no database.

`OUT/<role>/` is what `models import` takes; `OUT/images/` are the packed pictures, decoded once.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.images import pack_sizes
from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.tables import read_folder
from recjob.errors import NotFoundError, UserError
from recjob.inference.model_files import StoredRecommender, load_autoencoder, load_recommender
from recjob.jobs.model_record import ModelRecord, read_record, write_record
from recjob.jobs.pictures import PicturedCatalog, open_pictures, picture_sizes, with_pictures
from recjob.jobs.progress import progress_bar
from recjob.jobs.stages import JobResult, Stage, StageRecord, disk_errors_told, measured_stage
from recjob.jobs.stopping import Stopping
from recjob.jobs.training_site import TrainingSite, check_image_size
from recjob.model.autoencoder import Autoencoder
from recjob.monitoring.memory import MemoryMonitor
from recjob.settings import Settings
from recjob.store.artifacts import Role, sync_files
from recjob.training.distributed import Ranks, joined

LOCK_FILE = ".lock"

log = logging.getLogger(__name__)

R = TypeVar("R", bound=JobResult)


def run_offline(
    training: Callable[[TrainingSite], R], data: Path, out: Path, settings: Settings
) -> R:
    """Run `train_autoencoder`, `train_teacher` or `distill` on folders.

    Processes that torchrun started train together; all of them see the same two folders.

    Args:
        training: what to run.
        data: a folder in the import format that is complete in itself.
        out: where packed pictures and models go; the later trainings read the earlier's models.
        settings: all settings; `home` and `database_url` have no part in it.

    Raises UserError where `out` cannot be written to, and what the training raises.
    """
    start = time.monotonic()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOCK_FILE).touch()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror}); choose another") from None
    stopping = Stopping(settings.nightly.stop_seconds)
    with (
        disk_errors_told(out),
        MemoryMonitor() as monitor,
        stopping.listening(),
        joined(settings.compute) as ranks,
    ):
        if not ranks.first:  # what they would say the first one says
            logging.getLogger("recjob").setLevel(logging.ERROR)
        site = FolderSite(data, out, settings, monitor, ranks)
        result = training(site)
    seconds = time.monotonic() - start
    return result.model_copy(update={"seconds": seconds, "stages": tuple(site.records)})


class FolderSite:
    """A training on folders: the catalog of `data`, and the models in `out`."""

    def __init__(
        self,
        data: Path,
        out: Path,
        settings: Settings,
        monitor: MemoryMonitor,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._data = data
        self._out = out
        self._monitor = monitor
        self.settings = settings.model_copy(update={"home": out})
        self.records: list[StageRecord] = []
        """The finished stages."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """A stage of the result."""
        return measured_stage(name, self._monitor, self.records)

    def read_shop(self, size: int | None = None) -> PicturedCatalog:
        """The catalog of the folder; pictures are packed where they are new, bad ones logged.

        They are packed in every size that the settings name, so that a file is read once.
        """
        tables = read_folder(self._data, self.settings.catalog)
        images = tables.items["image"].to_pylist()
        with self._ranks.first_then_others(), progress_bar("pictures", len(images)) as bar:
            stores = [open_pictures(self.settings, side) for side in picture_sizes(self.settings)]
            report = pack_sizes(
                stores,
                FolderPictures(self._data),
                images,
                self.settings.images,
                lambda done: bar.to(done, len(images)),
            )
        for bad in report.bad:
            log.warning("%s: left out (%s)", self._data / bad.image, bad.reason)
        return with_pictures(to_catalog(tables, report.hashes), open_pictures(self.settings, size))

    def recommender(self, role: Role) -> tuple[str, StoredRecommender]:
        """The model in `out`."""
        folder = self._folder(role)
        stored = load_recommender(folder)
        check_image_size(str(folder), role, stored, self.settings)
        return read_record(folder).model_id, stored

    def autoencoder(self) -> tuple[str, Autoencoder]:
        """The autoencoder in `out`."""
        folder = self._folder("autoencoder")
        return read_record(folder).model_id, load_autoencoder(folder)

    def done_reading(self) -> None:
        """Nobody waits for it."""

    def save(self, record: ModelRecord, write: Callable[[Path], None]) -> str:
        """Into `out/<role>`, in place of the one before; the first process does it."""
        with self._ranks.first_then_others():
            if self._ranks.first:
                self._save(record, write)
        return f"`python cli.py models import {self._folder(record.role)}` registers it"

    def _save(self, record: ModelRecord, write: Callable[[Path], None]) -> None:
        final = self._out / record.role
        new, old = (self._out / f".{record.role}-{state}" for state in ("unfinished", "replaced"))
        with (self._out / LOCK_FILE).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left_by_a_killed_run in (new, old):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            new.mkdir()
            try:
                write(new)
                write_record(new, record)
                sync_files(new)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            if final.exists():
                final.rename(old)
            new.rename(final)
            shutil.rmtree(old, ignore_errors=True)

    def _folder(self, role: Role) -> Path:
        folder = self._out / role
        if not folder.is_dir():
            command = "train-autoencoder" if role == "autoencoder" else "train-teacher"
            raise NotFoundError(
                f"{folder}: there is no {role} yet; run `python cli.py {command} "
                f"--data {self._data} --out {self._out}` first"
            )
        return folder
