"""Figure 6: N-pair, FND and FND-CL over the size of the student, beside the teacher (Sec. 4.7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.plots import plot_lines
from recjob.paper.points import (
    METRIC_COLUMNS,
    PLOT_ONLY,
    cells,
    notes,
    panels,
    student,
    student_specs,
    teacher_specs,
)
from recjob.paper.rows import finished
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import METHOD_NAMES, Method, Study

NAME: Final = "figure6"
TITLE: Final = "Figure 6: students of different sizes"
PAPER: Final = (
    f"{PLOT_ONLY} "
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
        for spec in student_specs(study, method, size=size)
    ]
    return [*specs, *teacher_specs(study)]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    sizes = study.settings.paper.sizes
    lines = {
        METHOD_NAMES[method]: [student(study, method, size=size) for size in sizes]
        for method in METHODS
    }
    teacher = finished(study, "Teacher", teacher_specs(study))
    rows: list[tuple[Cell, ...]] = [
        (name, size.upper(), *cells(found))
        for name, points in lines.items()
        for size, found in zip(sizes, points, strict=True)
    ]
    options = study.settings.teacher
    what = options.size if options.backbone == "alexnet" else options.backbone
    rows.append((teacher.name, what, *cells(teacher)))
    everything = [found for points in lines.values() for found in points]
    shown = panels(lines.items(), [teacher])
    names = [size.upper() for size in sizes]
    return Artifact(
        NAME,
        TITLE,
        Table(("Method", "Size", *METRIC_COLUMNS), tuple(rows)),
        notes(study, everything, PAPER),
        plot=partial(
            plot_lines,
            panels=shown,
            x=range(len(sizes)),
            x_names=names,
            x_label="size of the student",
        )
        if shown
        else None,
    )
