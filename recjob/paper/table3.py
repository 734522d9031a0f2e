"""Table 3: cold starters who show 1 or 5 outfits (Sec. 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from recjob.evaluation.cold_start import ColdStartProtocol, ColdStartQuality, cold_start_quality
from recjob.inference.embedding import embed_items, user_unit_vectors
from recjob.inference.torch_engine import TorchEngine
from recjob.model.recommender import FEATURE_DIM
from recjob.paper.artifact import NOT_BUILT, NOT_RUN, Artifact, Cell, Spread, Table
from recjob.paper.methods import ROWS, WEIGHTED, MethodRow
from recjob.paper.rows import Repeats, repeats, row_specs, seeds_note
from recjob.paper.run import Run
from recjob.paper.run_spec import RunSpec
from recjob.paper.shop import Newcomers
from recjob.paper.study import Study
from recjob.training.compute import choose_compute

NAME: Final = "table3"
TITLE: Final = "Table 3: cold starters"
PUBLISHED_COLUMNS: Final = (
    "Paper, 53: AUC after 1",
    "Paper, 53: AUC after 5",
    "Paper, 32: AUC after 1",
    "Paper, 32: AUC after 5",
)
NO_NEWCOMERS: Final = f"{NOT_RUN}: no newcomers"


def needs(study: Study) -> Sequence[RunSpec]:
    """FND and FND-CL of Table 2."""
    if study.newcomers is None:
        return []
    return [spec for row in _own() for spec in row_specs(study, row)]


def build(study: Study) -> Artifact:
    """Both strategies of every method that can serve a newcomer without training."""
    shown = study.settings.evaluation.cold_start_outfits
    columns = ("Method", *(_column(count) for count in shown), *PUBLISHED_COLUMNS, "Remark")
    rows: list[tuple[Cell, ...]] = []
    users: dict[int, int] = {}
    for row in ROWS:
        if row.table3 is None:
            continue
        if row.specs is None:
            rows.append((row.name, *[None] * len(shown), *row.table3, NOT_BUILT))
        elif study.newcomers is None:
            rows += _rows(row, row.name, {}, shown, NO_NEWCOMERS)
        else:
            found = repeats(study, row)
            measured = [_measure(study, study.newcomers, run) for run in found.runs]
            users |= {one.outfits: one.users for results in measured for one in results}
            rows += _rows(row, found.name, _spreads(measured), shown, _remark(found))
    draws = study.settings.evaluation.cold_start_draws
    notes = [
        "avg counts the neighbours alike; w-avg, marked (w), weights them by their nearness.",
    ]
    if study.newcomers is not None:
        told = ", ".join(f"{users.get(count, 0)} after {count}" for count in shown)
        notes += [
            seeds_note(study),
            f"Each run is averaged over {draws} draws of the outfits that a newcomer shows. "
            f"Newcomers with enough outfits: {told}.",
        ]
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), tuple(notes))


def _measure(study: Study, newcomers: Newcomers, run: Run) -> list[ColdStartQuality]:
    """AUC of newcomers under both strategies."""
    settings = study.settings
    compute = choose_compute(settings.compute)
    stored = run.load()
    engine = TorchEngine(stored.model, compute.device, compute.bf16)
    shop = newcomers.student
    features = np.zeros((shop.catalog.n_items, FEATURE_DIM), np.float32)
    usable = np.flatnonzero(shop.catalog.item_usable)
    features[usable] = embed_items(
        engine, shop.pictures.pixels, shop.picture_rows[usable], settings.embed.batch_size
    )
    evaluation, cold_start = settings.evaluation, settings.cold_start
    protocol = ColdStartProtocol(
        shown=evaluation.cold_start_outfits,
        draws=evaluation.cold_start_draws,
        n_negatives=evaluation.negatives_per_positive,
        threshold=cold_start.threshold,
        temperature=cold_start.temperature,
        seed=settings.seed,
        batch_size=settings.embed.batch_size,
    )
    return cold_start_quality(
        engine,
        features,
        user_unit_vectors(stored.model),
        shop.catalog,
        np.unique(shop.catalog.positives[:, 0]),
        protocol,
    )


def _spreads(measured: Sequence[Sequence[ColdStartQuality]]) -> dict[tuple[str, int], Spread]:
    """AUC over the repeats, by strategy and number of outfits."""
    values: dict[tuple[str, int], list[float]] = {}
    for one in (one for results in measured for one in results):
        values.setdefault((one.strategy, one.outfits), []).append(one.auc)
    return {key: Spread.of(aucs) for key, aucs in values.items()}


def _rows(
    row: MethodRow,
    name: str,
    aucs: dict[tuple[str, int], Spread],
    shown: Sequence[int],
    remark: str,
) -> list[tuple[Cell, ...]]:
    """The rows of avg and of w-avg."""
    none = (None,) * len(PUBLISHED_COLUMNS)
    return [
        (label, *(aucs.get((strategy, count)) for count in shown), *published, remark)
        for label, strategy, published in (
            (name, "avg", row.table3 or none),
            (f"{name} (w)", "w-avg", WEIGHTED.get(row.name, none)),
        )
    ]


def _remark(found: Repeats) -> str:
    return f"{NOT_RUN}: {found.missing}" if found.missing and not found.runs else found.missing


def _column(count: int) -> str:
    return f"AUC after {count} outfit{'' if count == 1 else 's'}"


def _own() -> list[MethodRow]:
    """Rows of ours that serve newcomers."""
    return [row for row in ROWS if row.table3 is not None]
