"""Points of the paper's plots: means over repeats, with what a reader must know of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from recjob.paper.artifact import NOT_RUN, Cell
from recjob.paper.plots import Panel, Reference, Series
from recjob.paper.rows import Repeats, finished
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import METHOD_NAMES, Method, Study

METRIC_TITLES: Final = {"auc": "AUC", "ndcg_mean": "NDCG"}
"""The two panels of the paper's plots; its NDCG is `ndcg_mean`."""
METRIC_COLUMNS: Final = ("AUC", "NDCG", "Validation AUC", "Remark")
"""Of every plot's table, in the order of `cells`."""
PLOT_ONLY: Final = "The paper shows a plot only, without numbers."


def student_specs(study: Study, method: Method, **overrides: Any) -> list[RunSpec]:
    """The repeats of a point; on frozen features where `paper.figures_freeze` says so."""
    if study.settings.paper.figures_freeze:
        overrides = {"freeze_backbone": True} | overrides
    return [study.student_spec(method, repeat, **overrides) for repeat in study.figure_repeats]


def teacher_specs(study: Study) -> list[RunSpec]:
    """The teachers of the repeats."""
    return [study.teacher_spec(repeat) for repeat in study.figure_repeats]


def student(study: Study, method: Method, **overrides: Any) -> Repeats:
    """The point of a method with other keys of StudentSettings."""
    return finished(study, METHOD_NAMES[method], student_specs(study, method, **overrides))


def cells(found: Repeats) -> tuple[Cell, ...]:
    """Of a point, under `METRIC_COLUMNS`."""
    remark = found.missing if found.runs or not found.missing else f"{NOT_RUN}: {found.missing}"
    return (
        found.spread("auc", "random"),
        found.spread("ndcg_mean", "random"),
        found.validation_auc,
        remark,
    )


def panels(
    lines: Iterable[tuple[str, Sequence[Repeats]]], levels: Iterable[Repeats] = ()
) -> tuple[Panel, ...]:
    """A panel for each metric, of lines through points and of levels to compare with.

    A point that was not run is a gap, a level that was not run is left out. No panels where nothing
    was run.
    """
    lines, levels = list(lines), list(levels)
    if not any(found.runs for _, points in lines for found in points):
        return ()
    return tuple(
        Panel(
            title,
            tuple(_series(label, points, metric) for label, points in lines),
            tuple(
                Reference(level.name, spread.mean, spread.deviation)
                for level in levels
                if (spread := level.spread(metric, "random")) is not None
            ),
        )
        for metric, title in METRIC_TITLES.items()
    )


def notes(study: Study, points: Sequence[Repeats], paper: str) -> tuple[str, ...]:
    """What every plot says: repeats and seeds, frozen or not, and what the paper shows."""
    seeds = [str(study.settings.seed + repeat) for repeat in study.figure_repeats]
    told = [
        f"Mean ± standard deviation over {len(seeds)} runs (seeds {', '.join(seeds)})."
        if len(seeds) > 1
        else f"One run of each point (seed {seeds[0]}), so small differences may be chance."
    ]
    told.append("NDCG is ndcg_mean (over every cutoff), which the paper's figures fit.")
    if any(run.frozen for found in points for run in found.runs if run.role == "student"):
        told.append(
            "The students are trained on cached features of a frozen trunk; the paper trains all "
            "weights."
        )
    return (*told, paper)


def best(points: Sequence[Repeats]) -> int | None:
    """The place of the largest validation AUC, the first of equals; None where there is none.

    Choices are made on validation data: the best on the test part would flatter.
    """
    aucs = [found.validation_auc for found in points]
    known = [auc for auc in aucs if auc is not None]
    return aucs.index(max(known)) if known else None


def _series(label: str, points: Sequence[Repeats], metric: str) -> Series:
    spreads = [found.spread(metric, "random") for found in points]
    return Series(
        label,
        tuple(math.nan if spread is None else spread.mean for spread in spreads),
        tuple(math.nan if spread is None else spread.deviation for spread in spreads),
    )
