"""The paper's central claim, measured: does d < 0 point at outfits that a user truly likes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from recjob.catalog.drawn_truth import is_drawn_from, liked_in, looks_drawn
from recjob.catalog.judged_files import write_judged
from recjob.catalog.split import Part
from recjob.catalog.synthetic import Simulation, simulate
from recjob.evaluation.bootstrap import Bootstrap, Interval
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
from recjob.inference.torch_engine import TorchEngine
from recjob.paper.artifact import NOT_RUN, Artifact, Cell, Table
from recjob.paper.execute import frozen_teacher
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import NotRunError, Study
from recjob.training.compute import choose_compute

NAME: Final = "claim"
TITLE: Final = "The claim: outfits with d < 0 are truly liked"
JUDGED_FILE: Final = "claim-judged.csv"
"""For somebody who knows the truth of data that do not tell it."""


def needs(study: Study) -> Sequence[RunSpec]:
    """The teachers of Table 2."""
    specs = [study.teacher_spec(repeat) for repeat in study.repeats]
    return list({spec.key: spec for spec in specs}.values())  # repeats may share a teacher


def build(study: Study) -> Artifact:
    """A row for each teacher; what the last of them judged is written beside the table."""
    world = _world(study)
    rows = [_row(study, world, spec) for spec in needs(study)]
    notes = [
        "Random outfits are drawn for every user as training draws its negatives. Lift: how many "
        "times as often an outfit with d < 0 is truly liked as a random one.",
        "Held-out lift: the same without the truth, by Bayes: the share of held-out positives "
        "with d < 0 over the share of random outfits with d < 0. It presumes that what users post "
        "is a fair sample of what they like.",
        f"{JUDGED_FILE} has the random outfits of the last teacher with its scores and d (alpha "
        "is 1 / its gap), to be held against a truth that is not in the data.",
    ]
    if world is None:
        notes.append(
            "The data do not say what their users truly like: they are no drawn catalog of these "
            "settings (`demo`, `seed`)."
        )
    columns = (
        "Teacher",
        "Random outfits",
        "d < 0",
        "Liked, of all",
        "Liked, of d < 0",
        "Lift",
        "Lift, interval",
        "Held-out lift",
        "Held-out lift, interval",
        "Remark",
    )
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), tuple(notes))


def _row(study: Study, world: Simulation | None, spec: RunSpec) -> tuple[Cell, ...]:
    try:
        random, held_out = _judged(study, spec)
    except NotRunError as error:
        return (spec.label, *[None] * 8, f"{NOT_RUN}: {error}")
    catalog = study.data.catalog
    # Without a gap the teacher knows nothing, and the sign of d, which alpha keeps, says so.
    alpha = 1 / random.gap if random.gap > 0 else 1.0
    judged = (random.users, random.items, random.score, alpha * random.margin)
    write_judged(study.out / JUDGED_FILE, catalog, *judged)
    options = study.settings.evaluation
    bootstrap = Bootstrap(options.bootstrap_draws, options.confidence, study.settings.seed)
    by_bayes: HeldOutLift | None = None
    if held_out.users.size:
        by_bayes = held_out_lift(random, held_out, bootstrap)
    known: Hits | None = None
    if world is not None:
        liked = liked_in(world, catalog, random.users, random.items)
        known = hits(random, liked, alpha, bootstrap)
    return (
        spec.label,
        int(random.users.size),
        float((random.margin < 0).mean()),
        None if known is None else known.base_rate,
        None if known is None else known.hit_rate,
        None if known is None else known.lift,
        None if known is None else _told(known.lift_interval),
        None if by_bayes is None else by_bayes.lift,
        None if by_bayes is None else _told(by_bayes.lift_interval),
        "" if by_bayes is not None else "no held-out positives",
    )


def _judged(study: Study, spec: RunSpec) -> tuple[Judged, Judged]:
    """Random outfits and held-out positives in a teacher's eyes."""
    teacher = frozen_teacher(study, spec)
    data, settings = study.teacher_data, study.settings
    compute = choose_compute(settings.compute)
    engine = TorchEngine(teacher.model, compute.device, compute.bf16)
    view = TeacherView(engine, teacher.features, teacher.user_vectors, data.model_row)
    training, batch_size = data.training_positives, settings.embed.batch_size
    random = judge_random_outfits(view, data.catalog, training, spec.settings.seed, batch_size)
    held_out = data.positives_of(Part.TEST)
    held_out = held_out[np.isin(held_out[:, 0], random.users)]
    items = data.catalog.outfit_items[held_out[:, 1]]
    return random, judge(view, data.catalog, training, held_out[:, 0], items, batch_size)


def _world(study: Study) -> Simulation | None:
    """The simulation that the data were drawn from, where they were drawn from one."""
    catalog, settings = study.data.catalog, study.settings
    if not looks_drawn(catalog):
        return None
    world = simulate(settings.demo, settings.seed)
    return world if is_drawn_from(world, catalog) else None


def _told(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
