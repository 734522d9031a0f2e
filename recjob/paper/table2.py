"""Table 2: methods compared, and what distillation gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.methods import ROWS, TEACHER, MethodRow
from recjob.paper.rows import (
    QUALITY_COLUMNS,
    Repeats,
    difference,
    floor_rows,
    quality_row,
    repeats,
    row_specs,
    seeds_note,
    told_difference,
)
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

NAME: Final = "table2"
TITLE: Final = "Table 2: methods compared"
PUBLISHED_COLUMNS: Final = (
    "Paper, 630: AUC",
    "Paper, 630: NDCG",
    "Paper, 519: AUC",
    "Paper, 519: NDCG",
)


def needs(study: Study) -> Sequence[RunSpec]:
    """Every method of ours, and the teacher."""
    return [spec for row in (*ROWS, TEACHER) for spec in row_specs(study, row)]


def build(study: Study) -> Artifact:
    """Means over repeats, and the notes that say what they mean."""
    found = {row.name: repeats(study, row) for row in (*ROWS, TEACHER)}
    rows = floor_rows(study, "random", len(PUBLISHED_COLUMNS))
    rows += [_row(row, found[row.name]) for row in (*ROWS, TEACHER)]
    values = summary(found["N-pair"], found["FND-CL"], found["FND"], found["Teacher"])
    pairs = [("FND-CL", "N-pair"), ("FND-CL", "FND"), ("FND", "N-pair"), ("N-pair", "BPR")]
    differences = {(a, b): difference(study, found[a], found[b], "random") for a, b in pairs}
    values["differences"] = {
        f"{a} minus {b}": None if one is None else asdict(one)
        for (a, b), one in differences.items()
    }
    notes = (
        seeds_note(study),
        "NDCG is ndcg_mean (over every cutoff), which the paper's figures fit.",
        *_told(values),
        *(told_difference(a, b, one) for (a, b), one in differences.items()),
    )
    columns = (*QUALITY_COLUMNS, *PUBLISHED_COLUMNS, "Remark")
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), notes, values=values)


def summary(n_pair: Repeats, fnd_cl: Repeats, fnd: Repeats, teacher: Repeats) -> dict[str, Any]:
    """What distillation gains; None where a row that it needs was not run."""

    def minus(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    aucs = [_auc(one) for one in (n_pair, fnd_cl, teacher)]
    gain, gap = minus(aucs[1], aucs[0]), minus(aucs[2], aucs[0])
    return {
        "gap": gap,
        "gap_closed": gain / gap if gain is not None and gap is not None and gap > 0 else None,
        "mean_d": fnd.note("mean_d"),
        "share_d_below_zero": fnd.note("share_d_below_zero"),
        "teacher_gap": fnd.note("teacher_gap"),
        "teacher_validation_lead": minus(teacher.validation_auc, n_pair.validation_auc),
    }


def _told(values: Mapping[str, Any]) -> list[str]:
    told = []
    if values["teacher_validation_lead"] is not None:
        lead = values["teacher_validation_lead"]
        told.append(
            f"On the student's validation half the teacher's AUC is {lead:+.4f} from N-pair's."
        )
    if values["gap_closed"] is not None:
        told.append(
            f"The teacher is {values['gap']:.4f} above N-pair on the test part; FND-CL closes "
            f"{values['gap_closed']:.0%} of that."
        )
    if values["mean_d"] is not None:
        told.append(
            f"FND: the mean of d is {values['mean_d']:.3f}, and {values['share_d_below_zero']:.2%} "
            f"of the negatives have d < 0; the teacher's gap is {values['teacher_gap']:.3f}."
        )
    return told


def _row(row: MethodRow, found: Repeats) -> tuple[Cell, ...]:
    return quality_row(found, "random", row.table2 or (None,) * len(PUBLISHED_COLUMNS))


def _auc(found: Repeats) -> float | None:
    spread = found.spread("auc", "random")
    return None if spread is None else spread.mean
