"""Command `demo`: the whole way on a catalog that the program draws itself."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from recjob.catalog.synthetic import write_demo
from recjob.errors import LockedError, UserError
from recjob.jobs.import_tables import import_tables
from recjob.jobs.pipeline import Finished, run_pipeline
from recjob.jobs.runner import run_job
from recjob.jobs.start import prepare_home
from recjob.settings import Settings
from recjob.store.database import open_database

DEMO_FOLDER: Final = "demo"
SHOP_FOLDER: Final = "catalog"
NEWCOMERS_FOLDER: Final = "catalog-cold"
LOCK_FILE: Final = "demo.lock"
MARK: Final = "made-by-the-demo"
"""A file that tells the demo's home, which the next demo empties, from a folder of somebody."""


def run_demo(settings: Settings) -> Iterator[Finished | float]:
    """Draw the catalog, import it, and run the pipeline; yields after each step.

    The first value is the seconds that drawing took. It always begins anew, in a home of its own
    (`<home>/demo`) with an embedded Postgres, whatever RECJOB_DATABASE_URL says.

    Raises LockedError while another demo runs in the same home, UserError where `<home>/demo` holds
    what no demo made.
    """
    home = settings.home / DEMO_FOLDER
    own = settings.model_copy(update={"home": home, "database_url": None})
    prepare_home(settings.home)
    with _alone(settings.home / LOCK_FILE):
        _begin_anew(home)
        start = time.monotonic()
        shop, newcomers = home / SHOP_FOLDER, home / NEWCOMERS_FOLDER
        write_demo(shop, newcomers, settings.demo, settings.seed)
        yield time.monotonic() - start
        with open_database(own) as database:
            for folder in (shop, newcomers) if newcomers.exists() else (shop,):
                body = partial(import_tables, folder=folder)
                result = run_job("import", database, own, body)
                yield Finished("import" if folder == shop else "import newcomers", result)
            yield from run_pipeline(database, own)


def _begin_anew(home: Path) -> None:
    prepare_home(home)
    mark = home / MARK
    if not mark.exists() and any(home.iterdir()):
        raise UserError(
            f"{home}: was not made by the demo, which begins by emptying it; move it away, or set "
            "RECJOB_HOME to another folder"
        )
    mark.touch()
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != mark:
            path.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{path}: another demo runs here; wait for its end") from None
        yield
