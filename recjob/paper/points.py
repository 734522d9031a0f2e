"""Points of the paper's plots: means over repeats of a run, with what a reader must know of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recjob.paper.artifact import NOT_RUN, Cell, Spread
from recjob.paper.plots import Panel, Reference, Series
from recjob.paper.run import Run
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Method, NotRunError, Study

METRIC_TITLES: Final = {"auc": "AUC", "ndcg_mean": "NDCG (ndcg_mean)"}
"""The two panels of the paper's plots; its NDCG is `ndcg_mean`."""
METRIC_COLUMNS: Final = ("AUC", "ndcg_mean", "ndcg", "validation AUC")
"""Of every plot's table, in the order of `Point.cells`."""


@dataclass(frozen=True)
class Point:
    """One place of a plot."""

    metrics: dict[str, Spread]
    """auc, ndcg_mean and ndcg on the test part; empty where it was not run."""
    validation_auc: Spread | None
    """On the student's validation half: what choices may be made by."""
    notes: dict[str, float]
    """Of the recipes, averaged over the repeats."""
    frozen: bool
    missing: str = ""
    """Why it was not run."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Under `METRIC_COLUMNS`."""
        if not self.metrics:
            return (NOT_RUN, NOT_RUN, NOT_RUN, NOT_RUN)
        metrics = self.metrics
        return (metrics["auc"], metrics["ndcg_mean"], metrics["ndcg"], self.validation_auc)


def student_specs(study: Study, method: Method, **overrides: Any) -> list[RunSpec]:
    """The repeats of a point; on frozen features where `paper.figures_freeze` says so."""
    if study.settings.paper.figures_freeze:
        overrides = {"freeze_backbone": True} | overrides
    return [study.student_spec(method, repeat, **overrides) for repeat in study.figure_repeats]


def teacher_specs(study: Study) -> list[RunSpec]:
    """The teachers of the repeats."""
    return [study.teacher_spec(repeat) for repeat in study.figure_repeats]


def point(study: Study, specs: Sequence[RunSpec]) -> Point:
    """The mean of finished runs; without metrics where one of them is not there."""
    frozen = any(spec.frozen for spec in specs)
    try:
        runs = [study.run(spec) for spec in specs]
    except NotRunError as error:
        return Point({}, None, {}, frozen, str(error))
    return Point(
        {name: Spread.of([run.test[name] for run in runs]) for name in runs[0].test},
        _validation(runs),
        {
            name: sum(run.notes[name] for run in runs) / len(runs)
            for name in runs[0].notes
            if all(name in run.notes for run in runs)
        },
        frozen,
    )


def series(label: str, points: Sequence[Point], metric: str) -> Series:
    """A line through points; those that were not run are gaps."""
    found = [point.metrics.get(metric) for point in points]
    return Series(
        label,
        tuple(math.nan if spread is None else spread.mean for spread in found),
        tuple(math.nan if spread is None else spread.deviation for spread in found),
    )


def panels(
    lines: Iterable[tuple[str, Sequence[Point]]], levels: Iterable[tuple[str, Point]] = ()
) -> tuple[Panel, ...]:
    """A panel for each metric, of lines through points and of levels to compare with.

    Levels that were not run are left out.
    """
    lines, levels = list(lines), list(levels)
    return tuple(
        Panel(
            title,
            tuple(series(label, points, metric) for label, points in lines),
            tuple(
                Reference(label, level.metrics[metric].mean, level.metrics[metric].deviation)
                for label, level in levels
                if level.metrics
            ),
        )
        for metric, title in METRIC_TITLES.items()
    )


def notes(study: Study, points: Sequence[Point], paper: str) -> tuple[str, ...]:
    """What every plot says: repeats and seeds, frozen or not, what failed, what the paper shows."""
    seeds = [str(study.settings.seed + repeat) for repeat in study.figure_repeats]
    told = [
        f"Means and standard deviations over {len(seeds)} runs (seeds {', '.join(seeds)})."
        if len(seeds) > 1
        else f"One run of each point (seed {seeds[0]}), so differences may be chance."
    ]
    if any(point.frozen for point in points):
        told.append(
            "Students trained on cached features of a frozen trunk; the paper trains all weights."
        )
    reasons = dict.fromkeys(point.missing for point in points if point.missing)
    told += [f"Not run: {reason}." for reason in reasons]
    return (*told, f"The paper shows a plot only, without numbers. {paper}")


def best(points: Sequence[Point]) -> int | None:
    """The place of the largest validation AUC; None where nothing was run."""
    found = [
        (point.validation_auc.mean, -place)
        for place, point in enumerate(points)
        if point.validation_auc is not None
    ]
    return -max(found)[1] if found else None


def _validation(runs: Sequence[Run]) -> Spread | None:
    values = [run.validation_auc for run in runs if run.validation_auc is not None]
    return Spread.of(values) if len(values) == len(runs) else None
