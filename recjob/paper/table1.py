"""Table 1: the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog, Int32Array
from recjob.catalog.split import Part, part_positives, split_name
from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

NAME: Final = "table1"
TITLE: Final = "Table 1: the data"
PUBLISHED: Final = Table(
    ("Data", "Outfits", "Items"),
    (
        ("Polyvore-630", 162_945, 199_537),
        ("Polyvore-519", 106_806, 178_481),
        ("Polyvore-53", 13_707, 26_727),
        ("Polyvore-32", 6_565, 18_656),
    ),
)


def needs(study: Study) -> Sequence[RunSpec]:
    """Nothing is trained."""
    return []


def build(study: Study) -> Artifact:
    """Count the catalog, its split, and the newcomers."""
    data = study.data
    catalog, parts = data.catalog, data.parts
    validation = np.isin(parts, (Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT))
    shared = shared_with_training(
        catalog, *(part_positives(catalog, parts, part) for part in (Part.TRAIN, Part.TEST))
    )
    rows: list[tuple[Cell, ...]] = [
        (
            study.folder.name,
            *_counts(catalog),
            int((parts == Part.TRAIN).sum()),
            int(validation.sum()),
            int((parts == Part.TEST).sum()),
            shared,
        )
    ]
    if study.newcomers is not None:
        rows.append(
            ("newcomers", *_counts(study.newcomers.student.catalog), None, None, None, None)
        )
    bad = int((~catalog.item_usable).sum())
    notes = [
        f"{data.users.size} of the {catalog.n_users} users have enough training positives "
        f"({study.settings.users.min_training_positives}) for a vector of their own.",
        "Shared items: share of the test outfits that share an item with a training outfit of the "
        f"same user, under the split {split_name(catalog, study.settings.split)!r}. The paper has "
        "none of these.",
    ]
    if bad:
        notes.append(f"{bad} items have no usable picture and are left out with their outfits.")
    columns = (
        "Data",
        "Outfits",
        "Items",
        "Users",
        "Items per outfit",
        "Training positives",
        "Validation positives",
        "Test positives",
        "Shared items",
    )
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), tuple(notes), PUBLISHED)


def shared_with_training(catalog: Catalog, training: Int32Array, test: Int32Array) -> float | None:
    """Share of the test outfits with an item of their user's training outfits; None without any.

    Both are positives `(n, 2)`.
    """
    if not len(test):
        return None
    known = np.unique(_pairs(catalog, training))
    pairs = _pairs(catalog, test).reshape(len(test), -1)
    return float((np.isin(pairs, known) & (pairs != PADDING)).any(axis=1).mean())


def _pairs(catalog: Catalog, positives: Int32Array) -> np.typing.NDArray[np.int64]:
    """(n * max_items,) a number for each user and item of positives; PADDING without an item."""
    items = catalog.outfit_items[positives[:, 1]].astype(np.int64)
    numbers = positives[:, :1].astype(np.int64) * catalog.n_items + items
    return np.where(items == PADDING, PADDING, numbers).ravel()


def _counts(catalog: Catalog) -> tuple[int, int, int, float]:
    """Outfits, items that outfits use, users with positives, and mean items per outfit."""
    real = catalog.outfit_items != PADDING
    return (
        catalog.n_outfits,
        np.unique(catalog.outfit_items[real]).size,
        np.unique(catalog.positives[:, 0]).size,
        float(real.sum(axis=1).mean()) if len(real) else 0.0,
    )
