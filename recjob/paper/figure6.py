"""Figure 6: N-pair, FND and FND-CL over the size of the student, beside the teacher (Sec. 4.7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recjob.paper.artifact import Artifact, Table
from recjob.paper.plots import plot_lines
from recjob.paper.points import (
    METRIC_COLUMNS,
    notes,
    panels,
    point,
    student_specs,
    teacher_specs,
)
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import METHOD_NAMES, Method, Study
from recjob.settings import ModelSize

NAME: Final = "figure6"
TITLE: Final = "Figure 6: students of different sizes"
PAPER: Final = (
    "There, the larger the student the better, and FND-CL > FND > N-pair at every size; the gap"
    " between FND and N-pair shrinks as the student grows (Sec. 4.7)."
)
METHODS: Final[tuple[Method, ...]] = ("n-pair", "fnd", "fnd-cl")


def needs(study: Study) -> Sequence[RunSpec]:
    """Each method at every size of `paper.sizes`, and the teacher."""
    specs = [
        spec
        for size in study.settings.paper.sizes
        for method in METHODS
        for spec in _student(study, method, size)
    ]
    return [*specs, *teacher_specs(study)]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    sizes = study.settings.paper.sizes
    lines = {
        method: [point(study, _student(study, method, size)) for size in sizes]
        for method in METHODS
    }
    teacher = point(study, teacher_specs(study))
    rows = [
        (METHOD_NAMES[method], size.upper(), *found.cells)
        for method, points in lines.items()
        for size, found in zip(sizes, points, strict=True)
    ]
    options = study.settings.teacher
    what = options.size if options.backbone == "alexnet" else options.backbone
    rows.append(("Teacher", what, *teacher.cells))
    everything = [found for points in lines.values() for found in points]

    def plot(path: Path) -> None:
        plot_lines(
            path,
            panels(
                [(METHOD_NAMES[method], points) for method, points in lines.items()],
                [("Teacher", teacher)],
            ),
            range(len(sizes)),
            [size.upper() for size in sizes],
            "size of the student",
        )

    return Artifact(
        NAME,
        TITLE,
        Table(("method", "size", *METRIC_COLUMNS), tuple(rows)),
        (
            *notes(study, everything, PAPER),
            "The teacher's settings are its own; its AUC is on the same lists.",
        ),
        plot=plot,
    )


def _student(study: Study, method: Method, size: ModelSize) -> list[RunSpec]:
    return student_specs(study, method, size=size)
