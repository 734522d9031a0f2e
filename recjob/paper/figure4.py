"""Figure 4: FND at different alpha, beside N-pair and BPR (Sec. 4.5)."""

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
    student,
    student_specs,
)
from recjob.paper.rows import Repeats
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

NAME: Final = "figure4"
TITLE: Final = "Figure 4: FND at different α"
PAPER: Final = (
    f"{PLOT_ONLY} "
    "Its optimum is α = 1.25 on Polyvore-630 and 1.5 on Polyvore-519 (Sec. 4.1.4), in the units of"
    " its own teacher's scores."
)


def needs(study: Study) -> Sequence[RunSpec]:
    """FND at every alpha of `paper.alphas`, N-pair and BPR."""
    return [
        *(
            spec
            for alpha in _alphas(study)
            for spec in student_specs(study, "fnd", alpha_relative=alpha)
        ),
        *student_specs(study, "n-pair"),
        *student_specs(study, "bpr"),
    ]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    alphas = _alphas(study)
    points = [student(study, "fnd", alpha_relative=alpha) for alpha in alphas]
    levels = [student(study, "n-pair"), student(study, "bpr")]
    rows: list[tuple[Cell, ...]] = [
        (
            found.name,
            alpha,
            found.note("alpha"),
            found.note("mean_d"),
            found.note("share_d_below_zero"),
            *cells(found),
        )
        for alpha, found in zip(alphas, points, strict=True)
    ]
    rows += [(level.name, *[None] * 4, *cells(level)) for level in levels]
    told = notes(study, [*points, *levels], PAPER)
    chosen = best(points)
    if chosen is not None:
        told = (f"Best on validation data: α × gap = {alphas[chosen]:g}.", *told)
    shown = panels([("FND", points)], levels)
    names = [_name(alpha, found) for alpha, found in zip(alphas, points, strict=True)]
    label = "α × the teacher's gap (below: α of Eq. 12)"
    columns = ("Method", "α × gap", "α (Eq. 12)", "Mean d", "Share of d < 0", *METRIC_COLUMNS)
    return Artifact(
        NAME,
        TITLE,
        Table(columns, tuple(rows)),
        told,
        plot=partial(plot_lines, panels=shown, x=alphas, x_names=names, x_label=label)
        if shown
        else None,
    )


def _alphas(study: Study) -> list[float]:
    return sorted(set(study.settings.paper.alphas))


def _name(alpha: float, found: Repeats) -> str:
    absolute = found.note("alpha")
    return f"{alpha:g}" if absolute is None else f"{alpha:g}\n{absolute:.2g}"
