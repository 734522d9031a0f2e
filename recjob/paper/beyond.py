"""Beyond the paper: its future work (Sec. 5) and an alpha that follows a schedule, by FND-CL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.points import METRIC_COLUMNS, cells, notes, student_specs
from recjob.paper.rows import FROZEN, Repeats, difference, finished, told_difference
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

NAME: Final = "beyond"
TITLE: Final = "Beyond the paper: users as classes, and alpha by schedule"
BASE: Final = "FND-CL"
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    BASE: {"contrastive": "views", "alpha_schedule": "constant"},
    "FND-CL, users as classes": {"contrastive": "users", "alpha_schedule": "constant"},
    "FND-CL, alpha growing from a half": {
        "contrastive": "views",
        "alpha_schedule": "linear",
        "alpha_start": 0.5,
    },
    "FND-CL, alpha falling from twice": {
        "contrastive": "views",
        "alpha_schedule": "linear",
        "alpha_start": 2.0,
    },
}
"""Overrides of StudentSettings."""
PAPER: Final = "The paper names users as classes as future work (Sec. 5); the schedules are ours."


def needs(study: Study) -> Sequence[RunSpec]:
    """FND-CL and its variants."""
    return [
        spec for values in VARIANTS.values() for spec in student_specs(study, "fnd-cl", **values)
    ]


def build(study: Study) -> Artifact:
    """Each variant, and its paired difference from FND-CL."""
    found = {name: _variant(study, name, values) for name, values in VARIANTS.items()}
    rows: list[tuple[Cell, ...]] = [(one.name, *cells(one)) for one in found.values()]
    told = [
        told_difference(name, BASE, difference(study, one, found[BASE], "random"))
        for name, one in found.items()
        if name != BASE
    ]
    said = notes(study, list(found.values()), PAPER)
    return Artifact(NAME, TITLE, Table(("Method", *METRIC_COLUMNS), tuple(rows)), (*told, *said))


def _variant(study: Study, name: str, values: dict[str, Any]) -> Repeats:
    specs = student_specs(study, "fnd-cl", **values)
    return finished(study, name + (FROZEN if any(spec.frozen for spec in specs) else ""), specs)
