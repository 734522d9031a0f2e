"""Figure 7: FND-CL over batch sizes, the learning rate scaled along (Sec. 4.8)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.plots import plot_lines
from recjob.paper.points import (
    METRIC_COLUMNS,
    PLOT_ONLY,
    best,
    cells,
    notes,
    panels,
    student_specs,
)
from recjob.paper.rows import finished
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study
from recjob.settings import StudentSettings

NAME: Final = "figure7"
TITLE: Final = "Figure 7: FND-CL at different batch sizes"
PAPER: Final = (
    f"{PLOT_ONLY} "
    "There, the metrics rise with the batch size, that is, with the number of negatives, and level"
    " off (Sec. 4.8)."
)


def needs(study: Study) -> Sequence[RunSpec]:
    """FND-CL at every size of `paper.batch_sizes`."""
    return [spec for size in _sizes(study) for spec in _fnd_cl(study, size)]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    sizes = _sizes(study)
    specs = [_fnd_cl(study, size) for size in sizes]
    points = [finished(study, "FND-CL", of_size) for of_size in specs]
    rows: list[tuple[Cell, ...]] = [
        (found.name, size, _rate(of_size[0]), *cells(found))
        for size, of_size, found in zip(sizes, specs, points, strict=True)
    ]
    told = notes(study, points, PAPER)
    chosen = best(points)
    if chosen is not None:
        told = (f"Best on validation data: batches of {sizes[chosen]}.", *told)
    shown = panels([("FND-CL", points)])
    return Artifact(
        NAME,
        TITLE,
        Table(("Method", "Batch size", "Learning rate", *METRIC_COLUMNS), tuple(rows)),
        told,
        plot=partial(
            plot_lines,
            panels=shown,
            x=sizes,
            x_names=[str(size) for size in sizes],
            x_label="batch size (learning rate in proportion)",
            scale="log",
        )
        if shown
        else None,
    )


def _sizes(study: Study) -> list[int]:
    return sorted(set(study.settings.paper.batch_sizes))


def _fnd_cl(study: Study, size: int) -> list[RunSpec]:
    return student_specs(study, "fnd-cl", batch_size=size)


def _rate(spec: RunSpec) -> str:
    """As text: the digits of a table would not tell 0.000125 from 0.0001."""
    section = spec.section
    assert isinstance(section, StudentSettings)
    return f"{section.learning_rate:g}"
