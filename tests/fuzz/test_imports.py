"""A mutated folder that is refused leaves tables, pictures and folder as they were."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from PIL import Image
from sqlalchemy import text

from recjob.errors import RecjobError
from recjob.jobs.import_tables import import_tables
from recjob.jobs.runner import run_job
from recjob.settings import Settings
from recjob.store.database import Database
from tests.fuzz.importers import TABLES, write_folder
from tests.fuzz.mutations import AWKWARD_BYTES, AWKWARD_TEXTS
from tests.fuzz.target import contents
from tests.fuzz.test_fuzz import SEED

pytestmark = pytest.mark.system
INPUTS: Final = 80
CATALOG: Final = ("item", "outfit", "outfit_item", "app_user", "interaction", "given_negative")


def test_refused_folders_leave_nothing(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    (folder / "pictures").mkdir(parents=True)
    for name in ("pictures/1.jpg", "pictures/2.jpg", "3.png", "4.png"):
        Image.new("RGB", (9, 9), (len(name), 0, 99)).save(folder / name)
    write_folder(folder)
    run = partial(
        run_job, "import", database, database_settings, partial(import_tables, folder=folder)
    )
    run()
    drawn = random.Random(SEED)
    ends: Counter[str] = Counter()
    for _ in range(INPUTS):
        write_folder(folder)
        # A new user comes with each, so that one that is not refused shows.
        with (folder / "users.csv").open("a") as file:
            file.write(f"new-{ends.total()}\n")
        mutate(folder / f"{drawn.choice(sorted(TABLES))}.csv", drawn)
        before, files = rows(database), contents(folder)
        pictures = contents(database_settings.home / "images")
        try:
            run()
        except RecjobError:
            assert rows(database) == before
            assert contents(database_settings.home / "images") == pictures
            ends["refused"] += 1
        else:
            assert rows(database) != before
            ends["imported"] += 1
        assert contents(folder) == files
    assert min(ends["refused"], ends["imported"]) >= INPUTS // 10, ends


def mutate(path: Path, drawn: random.Random) -> None:
    """One cell becomes an awkward one, or some bytes do."""
    data = path.read_bytes()
    lines = data.split(b"\r\n")
    row = drawn.randrange(1, len(lines) - 1)
    cells = lines[row].split(b",")
    if drawn.random() < 0.7:
        cells[drawn.randrange(len(cells))] = drawn.choice(AWKWARD_TEXTS).encode()
        lines[row] = b",".join(cells)
        data = b"\r\n".join(lines)
    else:
        at = drawn.randrange(len(data))
        data = data[:at] + drawn.choice(AWKWARD_BYTES) + data[at + drawn.randrange(9) :]
    path.write_bytes(data)


def rows(database: Database) -> list[str]:
    """Every row of the catalog."""
    found: list[str] = []
    with database.connect() as connection:
        for table in CATALOG:
            found += connection.scalars(text(f"SELECT t::text FROM {table} AS t ORDER BY 1"))
    return found
