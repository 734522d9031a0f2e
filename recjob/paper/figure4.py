"""Figure 4: FND at different alpha, beside N-pair and BPR (Sec. 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recjob.paper.artifact import Artifact, Table
from recjob.paper.plots import plot_lines
from recjob.paper.points import (
    METRIC_COLUMNS,
    Point,
    best,
    notes,
    panels,
    point,
    student_specs,
)
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

NAME: Final = "figure4"
TITLE: Final = "Figure 4: FND at different α"
PAPER: Final = (
    "Its optimum is α = 1.25 on Polyvore-630 and 1.5 on Polyvore-519 (Sec. 4.1.4), in the units of"
    " its own teacher's scores."
)


def needs(study: Study) -> Sequence[RunSpec]:
    """FND at every alpha of `paper.alphas`, N-pair and BPR."""
    specs = [spec for alpha in _alphas(study) for spec in _fnd(study, alpha)]
    return [*specs, *student_specs(study, "n-pair"), *student_specs(study, "bpr")]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    alphas = _alphas(study)
    points = [point(study, _fnd(study, alpha)) for alpha in alphas]
    n_pair = point(study, student_specs(study, "n-pair"))
    bpr = point(study, student_specs(study, "bpr"))
    absolute = [found.notes.get("alpha") for found in points]
    shares = [found.notes.get("share_d_below_zero") for found in points]
    rows = [
        ("FND", alpha, *more, *found.cells)
        for alpha, *more, found in zip(alphas, absolute, shares, points, strict=True)
    ]
    rows += [
        (label, None, None, None, *found.cells)
        for label, found in (("N-pair", n_pair), ("BPR", bpr))
    ]
    columns = ("method", "α / gap", "α (Eq. 12)", "share of d < 0", *METRIC_COLUMNS)
    chosen = best(points)
    told = notes(study, [*points, n_pair, bpr], PAPER)
    if chosen is not None:
        told = (f"Best on validation data: {alphas[chosen]:g} times the gap.", *told)

    def plot(path: Path) -> None:
        names = [_name(alpha, found) for alpha, found in zip(alphas, points, strict=True)]
        plot_lines(
            path,
            panels([("FND", points)], [("N-pair", n_pair), ("BPR", bpr)]),
            alphas,
            names,
            "α in units of the teacher's gap (below: as in Eq. 12)",
        )

    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), told, plot=plot)


def _alphas(study: Study) -> list[float]:
    return sorted(set(study.settings.paper.alphas))


def _fnd(study: Study, alpha: float) -> list[RunSpec]:
    return student_specs(study, "fnd", alpha_relative=alpha)


def _name(alpha: float, found: Point) -> str:
    absolute = found.notes.get("alpha")
    return f"{alpha:g}" if absolute is None else f"{alpha:g}\n{absolute:.2g}"
