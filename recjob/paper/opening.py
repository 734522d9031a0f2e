"""Open a study: read the data, pack the pictures, split, and fix the evaluation lists."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.fingerprint import data_fingerprint
from recjob.catalog.given_negatives import GivenNegatives, given_negatives
from recjob.catalog.split import Part
from recjob.errors import DataError
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

HARD_SHARES: Final[dict[ListKind, float]] = {"random": 0.0, "hard": 1.0}
"""Share of hard negatives in each kind of test lists."""


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
    given = None
    if settings.split.kind == "files":
        given = given_negatives(data.catalog, tables)
    lists = {
        kind: _lists(data, Part.TEST, settings, share, given) for kind, share in HARD_SHARES.items()
    }
    validation = _lists(data, Part.VALIDATION_STUDENT, settings, HARD_SHARES["random"], given)
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
        _digest(data, [*lists.values(), validation]),
        "" if newcomers is None else data_fingerprint(newcomers.student.catalog),
        source.folder,
        source.users,
    )


def _training_data(shop: Shop, settings: Settings) -> TrainingData:
    return prepare_data(shop.catalog, shop.pictures.pixels, shop.picture_rows, settings)


def _lists(
    data: TrainingData,
    part: Part,
    settings: Settings,
    hard_share: float,
    given: GivenNegatives | None,
) -> EvaluationLists:
    """The lists of a part; negatives of the data's own where the split is theirs too."""
    return evaluation_lists(
        data.catalog,
        data.parts,
        part,
        settings.evaluation.negatives_per_positive,
        settings.seed,
        users=data.users,
        hard_share=hard_share,
        given=given,
    )


def _digest(data: TrainingData, lists: list[EvaluationLists]) -> str:
    digest = hashlib.sha256(data_fingerprint(data.catalog).encode())
    digest.update(np.ascontiguousarray(data.parts, "<i1").tobytes())
    digest.update(np.ascontiguousarray(data.users, "<i4").tobytes())
    for one in lists:
        digest.update(np.array(one.items.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(one.user, "<i4").tobytes())
        digest.update(np.ascontiguousarray(one.items, "<i4").tobytes())
    return digest.hexdigest()
