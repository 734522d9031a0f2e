"""Rows of Tables 2 to 4: means over repeats, reasons of what was not run, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from recjob.evaluation.bootstrap import Bootstrap
from recjob.evaluation.comparison import PairedDifference, paired_differences
from recjob.evaluation.metrics import GroupedMetrics
from recjob.evaluation.protocol import popularity_list_scores, quality, random_list_scores
from recjob.paper.artifact import NOT_BUILT, NOT_RUN, Cell, Spread
from recjob.paper.methods import MethodRow
from recjob.paper.run import METRICS, ListKind, Run
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import NotRunError, Study

FROZEN: Final = " (frozen features)"
QUALITY_COLUMNS: Final = ("Method", "AUC", "NDCG")
"""NDCG is `ndcg_mean`, the paper's."""


@dataclass(frozen=True)
class Repeats:
    """The repeats of a row that are there."""

    name: str
    """With "(frozen features)" where it is so."""
    runs: tuple[Run, ...]
    missing: str = ""
    """Why some or all are not there."""

    def spread(self, metric: str, kind: ListKind) -> Spread | None:
        """A metric on the test part; None where nothing was run."""
        values = [run.quality[kind][metric] for run in self.runs]
        return Spread.of(values) if values else None

    @property
    def validation_auc(self) -> float | None:
        """Mean over the repeats."""
        values = [run.validation_auc for run in self.runs if run.validation_auc is not None]
        return float(np.mean(values)) if values else None

    def note(self, name: str) -> float | None:
        """The mean of what the recipe found on its way."""
        values = [run.notes[name] for run in self.runs if name in run.notes]
        return float(np.mean(values)) if values else None


def row_specs(
    study: Study, row: MethodRow, hard: bool = False, freeze: bool = False
) -> list[RunSpec]:
    """The runs of a row; none of a method that is not built yet."""
    if row.specs is None:
        return []
    specs = [row.specs(study, repeat, hard, freeze) for repeat in study.repeats]
    return list({spec.key: spec for spec in specs}.values())  # repeats may share a teacher


def repeats(study: Study, row: MethodRow, hard: bool = False, freeze: bool = False) -> Repeats:
    """The finished runs of a row."""
    specs = row_specs(study, row, hard, freeze)
    name = row.name + (FROZEN if any(spec.frozen for spec in specs) else "")
    if row.specs is None:
        return Repeats(name, (), NOT_BUILT)
    return finished(study, name, specs)


def finished(study: Study, name: str, specs: Sequence[RunSpec]) -> Repeats:
    """What there is of some runs."""
    runs, reasons = [], []
    for spec in specs:
        try:
            runs.append(study.run(spec))
        except NotRunError as error:
            reasons.append(str(error))
    return Repeats(name, tuple(runs), "; ".join(dict.fromkeys(reasons)))


def quality_row(found: Repeats, kind: ListKind, published: Sequence[Cell]) -> tuple[Cell, ...]:
    """A row under QUALITY_COLUMNS, the paper's columns and a remark."""
    auc, ndcg = found.spread("auc", kind), found.spread("ndcg_mean", kind)
    remark = f"{NOT_RUN}: {found.missing}" if found.missing and not found.runs else found.missing
    if found.missing == NOT_BUILT:
        remark = NOT_BUILT
    return (found.name, auc, ndcg, *published, remark)


def floor_rows(study: Study, kind: ListKind, width: int) -> list[tuple[Cell, ...]]:
    """Rows of chance and of popularity, which need no training; `width` columns of the paper."""
    lists = study.lists[kind]
    scores = {
        "Random": random_list_scores(lists, study.settings.seed),
        "Popularity": popularity_list_scores(
            study.data.catalog, study.data.training_positives, lists
        ),
    }
    rows: list[tuple[Cell, ...]] = []
    for name, values in scores.items():
        found = quality(lists, values)
        rows.append((name, found.auc, found.ndcg_mean, *[None] * width, ""))
    return rows


def difference(study: Study, a: Repeats, b: Repeats, kind: ListKind) -> PairedDifference | None:
    """AUC of A minus B by user, each user's AUC averaged over the repeats of both.

    None where one of them was not run.
    """
    if not (a.runs and b.runs):
        return None
    options = study.settings.evaluation
    bootstrap = Bootstrap(options.bootstrap_draws, options.confidence, study.settings.seed)
    return paired_differences(_per_user(a, kind), _per_user(b, kind), bootstrap)[0]


def told_difference(name_a: str, name_b: str, found: PairedDifference | None) -> str:
    """A paired difference in a sentence."""
    if found is None:
        return f"{name_a} minus {name_b}: {NOT_RUN}."
    interval = ""
    if found.interval is not None:
        low, high = found.interval
        interval = f", bootstrap interval [{low:+.4f}, {high:+.4f}]"
    return (
        f"{name_a} minus {name_b}, AUC by user: {found.difference:+.4f}{interval}; better for "
        f"{found.better:.0%} of the users, worse for {found.worse:.0%} "
        f"(sign-flip p = {found.p_value:.4f})."
    )


def seeds_note(study: Study) -> str:
    """How often, with which seeds, and what the deviation is of."""
    seeds = [str(study.settings.seed + repeat) for repeat in study.repeats]
    if len(seeds) == 1:
        return f"One run of each row (seed {seeds[0]}), so small differences may be chance."
    return f"Mean ± standard deviation over {len(seeds)} runs (seeds {', '.join(seeds)})."


def _per_user(found: Repeats, kind: ListKind) -> GroupedMetrics:
    users = [run.per_user(kind) for run in found.runs]
    means = [np.mean([getattr(one, metric) for one in users], axis=0) for metric in METRICS]
    return GroupedMetrics(np.arange(len(users[0].user_ids)), *means)
