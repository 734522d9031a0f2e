"""Part of `evaluate --truth`: does the teacher's d < 0 point at outfits that users truly like?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from recjob.catalog.catalog import Catalog, Int8Array, Int32Array
from recjob.catalog.drawn_truth import is_drawn_from, liked_in, looks_drawn
from recjob.catalog.judged_files import read_truth, write_judged
from recjob.catalog.split import Part, part_positives
from recjob.catalog.synthetic import simulate
from recjob.errors import DataError
from recjob.evaluation.bootstrap import Bootstrap
from recjob.evaluation.truth import (
    HeldOutLift,
    Hits,
    Judged,
    TeacherView,
    held_out_lift,
    hits,
    judge,
    judge_random_outfits,
)
from recjob.jobs.model_vectors import ModelVectors
from recjob.settings import Settings


class TruthResult(BaseModel):
    """What random outfits with d < 0 are."""

    model_config = ConfigDict(frozen=True)

    teacher: str
    teacher_gap: float
    """Mean score of the users' training positives less that of random outfits."""
    alpha: float
    """Of Eq. 12, by the settings of the student; the sign of d does not depend on it."""
    truth: Literal["drawn", "file", "unknown"]
    """Where the true liking is from; unknown: only the held-out lift can tell."""
    left_out: int
    """Outfits of the file whose users the teacher has no d for."""
    hits: Hits | None
    """d < 0 held against the truth; None where that is unknown."""
    held_out: HeldOutLift | None
    """The same lift estimated from the test part; None where that is empty."""


def measure_truth(
    settings: Settings,
    catalog: Catalog,
    parts: Int8Array,
    teacher: ModelVectors,
    truth_file: Path | None = None,
    judged_file: Path | None = None,
) -> TruthResult:
    """Judge random outfits by the teacher and hold them against the truth, where that is known.

    Args:
        settings: all settings; `demo` and `seed` are those that a drawn catalog was drawn with.
        catalog: what the teacher judges.
        parts: `(n_positives,)` the split.
        teacher: whose d is asked.
        truth_file: outfits with their truth (`read_truth`), judged instead of fresh draws.
        judged_file: where to write the judged outfits, for somebody who knows the truth.

    Raises DataError where there is nothing to judge, and for a drawn catalog whose settings are
    others.
    """
    view = TeacherView(teacher.engine, teacher.features, teacher.user_vectors, teacher.row)
    batch_size = settings.embed.batch_size
    training = _of(part_positives(catalog, parts, Part.TRAIN), teacher.users)
    if not training.size:
        raise DataError(
            f"teacher {teacher.model_id} knows no user with training positives in this catalog; "
            "train it on this catalog"
        )
    source: Literal["drawn", "file", "unknown"] = "unknown"
    known = None if truth_file is None else read_truth(truth_file, catalog)
    world = None
    if known is None and looks_drawn(catalog):
        world = simulate(settings.demo, settings.seed)
        if not is_drawn_from(world, catalog):
            raise DataError(
                "the catalog was drawn with other settings, so what its users truly like is not "
                "known; name the settings file of its [demo] and seed by --settings"
            )
    judged = random = judge_random_outfits(view, catalog, training, settings.seed, batch_size)
    liked = None
    left_out = 0
    if world is not None:
        source = "drawn"
        liked = liked_in(world, catalog, judged.users, judged.items)
    elif known is not None:
        source = "file"
        with_d = np.isin(known.users, training[:, 0])
        left_out = int((~with_d).sum())
        if not with_d.any():
            raise DataError(f"{truth_file}: the teacher has no d for any of its users")
        liked = known.liked[with_d]
        users, items = known.users[with_d], known.items[with_d]
        judged = judge(view, catalog, training, users, items, batch_size)
    evaluation = settings.evaluation
    bootstrap = Bootstrap(evaluation.bootstrap_draws, evaluation.confidence, settings.seed)
    alpha = _alpha(settings, random)
    if judged_file is not None:
        write_judged(
            judged_file, catalog, judged.users, judged.items, judged.score, alpha * judged.margin
        )
    test = _of(part_positives(catalog, parts, Part.TEST), np.unique(training[:, 0]))
    held_out = None
    if test.size:
        posted = catalog.outfit_items[test[:, 1]]
        found = judge(view, catalog, training, test[:, 0], posted, batch_size)
        held_out = held_out_lift(random, found, bootstrap)
    return TruthResult(
        teacher=teacher.model_id,
        teacher_gap=random.gap,
        alpha=alpha,
        truth=source,
        left_out=left_out,
        hits=None if liked is None else hits(judged, liked, alpha, bootstrap),
        held_out=held_out,
    )


def _alpha(settings: Settings, random: Judged) -> float:
    """alpha of Eq. 12 as distillation sets it; a teacher without a gap leaves `student.alpha`."""
    options = settings.student
    if options.alpha_relative > 0 and random.gap > 0:
        return options.alpha_relative / random.gap
    return options.alpha


def _of(positives: Int32Array, users: Int32Array) -> Int32Array:
    """The positives (n, 2) of these users."""
    return positives[np.isin(positives[:, 0], users)]
