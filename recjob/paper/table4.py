"""Table 4: negatives that other users like (Sec. 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.methods import ROWS, TEACHER, MethodRow
from recjob.paper.rows import (
    QUALITY_COLUMNS,
    difference,
    floor_rows,
    quality_row,
    repeats,
    row_specs,
    seeds_note,
    told_difference,
)
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import HARD_SHARE, Study

NAME: Final = "table4"
TITLE: Final = "Table 4: hard negatives"
PUBLISHED_COLUMNS: Final = (
    "Paper, 630-H: AUC",
    "Paper, 630-H: NDCG",
    "Paper, 519-H: AUC",
    "Paper, 519-H: NDCG",
)
WITHOUT_PERSON: Final = ("Type-Aware", "SCE-Net", "Bi-LSTM")
"""Methods that score an outfit the same for everybody cannot tell users apart."""
ALSO_RANDOM: Final = ("N-pair", "FND-CL")
"""Rows that are also shown as trained for Table 2, with random negatives alone."""


def needs(study: Study) -> Sequence[RunSpec]:
    """Every personal method of ours with hard negatives, their teacher, and two of Table 2."""
    freeze = study.settings.paper.table4_freeze
    hard = [spec for row in _rows() for spec in row_specs(study, row, True, freeze)]
    return [*hard, *(spec for row in _also_random() for spec in row_specs(study, row))]


def build(study: Study) -> Artifact:
    """Means over repeats on the hard lists."""
    freeze = study.settings.paper.table4_freeze
    none: tuple[Cell, ...] = (None,) * len(PUBLISHED_COLUMNS)
    found = {row.name: repeats(study, row, True, freeze) for row in _rows()}
    rows = floor_rows(study, "hard", len(PUBLISHED_COLUMNS))
    rows += [quality_row(found[row.name], "hard", row.table4 or none) for row in _rows()]
    for row in _also_random():
        name, *cells = quality_row(repeats(study, row), "hard", none)
        rows.append((f"{name}, trained with random negatives alone", *cells))
    pairs = [("FND-CL", "N-pair"), ("FND-CL", "FND"), ("FND", "N-pair"), ("N-pair", "BPR")]
    differences = {(a, b): difference(study, found[a], found[b], "hard") for a, b in pairs}
    notes = (
        seeds_note(study),
        f"All test negatives are positives of other users; {HARD_SHARE:.0%} of the training "
        "negatives are, the teacher's too.",
        *(told_difference(a, b, one) for (a, b), one in differences.items()),
    )
    values = {
        "differences": {
            f"{a} minus {b}": None if one is None else asdict(one)
            for (a, b), one in differences.items()
        }
    }
    columns = (*QUALITY_COLUMNS, *PUBLISHED_COLUMNS, "Remark")
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), notes, values=values)


def _rows() -> list[MethodRow]:
    return [row for row in (*ROWS, TEACHER) if row.name not in WITHOUT_PERSON]


def _also_random() -> list[MethodRow]:
    return [row for row in ROWS if row.name in ALSO_RANDOM]
