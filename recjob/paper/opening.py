"""Open a study: read the data, pack the pictures, split, and fix the evaluation lists."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recjob.catalog.evaluation_lists import HARD_SHARES
from recjob.catalog.fingerprint import data_fingerprint
from recjob.catalog.given_negatives import given_negatives
from recjob.catalog.split import Part, brings_split
from recjob.errors import DataError
from recjob.paper.lists import LISTS_FOLDER, StudyLists, digest_of
from recjob.paper.run import ListKind
from recjob.paper.shop import (
    Newcomers,
    ProgressFactory,
    Shop,
    Source,
    pack,
    read_tables,
    teacher_size,
)
from recjob.paper.study import Study
from recjob.settings import Settings
from recjob.training.data import TrainingData, prepare_data

TEST_LISTS: Final[tuple[ListKind, ...]] = ("random", "hard")


def open_study(source: Source, out: Path, settings: Settings, progress: ProgressFactory) -> Study:
    """Read everything that runs and tables start from.

    Args:
        source: the data.
        out: where packed pictures, lists, runs and results lie.
        settings: all settings; `seed` is that of the lists and of the first repeat.
        progress: of what takes long.

    Raises DataError or SettingsError where the data or the settings cannot be used.
    """
    tables, cold = read_tables(source, settings)
    sizes = (settings.images.size, teacher_size(settings))
    shops = {size: pack(tables, out, size, settings, progress) for size in set(sizes)}
    data, teacher_data = (_training_data(shops[size], settings) for size in sizes)
    newcomers = None
    if cold is not None:
        cold_shops = {size: pack(cold, out, size, settings, progress) for size in set(sizes)}
        newcomers = Newcomers(*(cold_shops[size] for size in sizes))
    brought = brings_split(data.catalog, settings.split)
    given = given_negatives(data.catalog, tables) if brought else None
    drawn = StudyLists(out / LISTS_FOLDER, data, given, settings)
    lists = {kind: drawn.of(f"test-{kind}", Part.TEST, HARD_SHARES[kind]) for kind in TEST_LISTS}
    validation = drawn.of("validation", Part.VALIDATION_STUDENT, HARD_SHARES["random"])
    if len(lists["random"].user) == 0:
        raise DataError(
            f"{source.folder}: no user has a positive in the test part; bring more interactions, "
            "or give split.test a larger share"
        )
    return Study(
        out,
        settings,
        data,
        teacher_data,
        newcomers,
        lists,
        validation,
        digest_of(
            data_fingerprint(data.catalog),
            data.parts,
            data.users,
            *(array for one in (*lists.values(), validation) for array in (one.user, one.items)),
        ),
        "" if newcomers is None else data_fingerprint(newcomers.student.catalog),
        source.folder,
        source.users,
    )


def _training_data(shop: Shop, settings: Settings) -> TrainingData:
    return prepare_data(shop.catalog, shop.pictures.pixels, shop.picture_rows, settings)
