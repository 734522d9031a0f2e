"""Figure 8: the user-outfit space of the teacher, with outfits as pictures (Sec. 4.9)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog, Int32Array
from recjob.catalog.disk import replace_file
from recjob.catalog.table_columns import ITEM_SEPARATOR
from recjob.errors import SettingsError
from recjob.inference.embedding import embed_outfits
from recjob.inference.torch_engine import TorchEngine
from recjob.paper.artifact import NOT_RUN, Artifact, Cell, Table
from recjob.paper.execute import frozen_teacher
from recjob.paper.run_spec import RunSpec
from recjob.paper.space import CANDIDATES, Space, user_outfit_space
from recjob.paper.space_layout import FALSE_NEGATIVE, TEST_POSITIVE, layout
from recjob.paper.space_plot import USER_COLOURS, plot_space
from recjob.paper.study import NotRunError, Study
from recjob.training.compute import choose_compute

NAME: Final = "figure8"
TITLE: Final = "Figure 8: the teacher's user-outfit space"
JUDGED_FILE: Final = "judged_negatives.csv"
"""Beside the figure: every negative shown, in the eyes of every user shown."""
COLUMNS: Final = (
    "User",
    "Training positives shown",
    "Mean score of positives",
    "Random negatives",
    "Random with d < 0",
    "Test positives",
    "Test with d < 0",
)


def needs(study: Study) -> Sequence[RunSpec]:
    """The first teacher."""
    return [study.teacher_spec()]


def build(study: Study) -> Artifact:
    """The figure, and how often the teacher takes negatives of each user for false ones.

    Raises SettingsError for more users than there are colours.
    """
    options, settings = study.settings.paper, study.settings
    if options.figure8_users > len(USER_COLOURS):
        raise SettingsError(
            f"paper.figure8_users: {options.figure8_users} users cannot be told apart by colour;"
            f" {len(USER_COLOURS)} can"
        )
    try:
        teacher = frozen_teacher(study, study.teacher_spec())
    except NotRunError as error:
        return Artifact(NAME, TITLE, Table(COLUMNS, ()), (f"{NOT_RUN}: {error}",))
    compute = choose_compute(settings.compute)
    engine = TorchEngine(teacher.model, compute.device, compute.bf16)

    def encode(outfits: Int32Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return embed_outfits(engine, teacher.features, outfits, settings.embed.batch_size)

    n_nearest = min(options.neighbours, options.figure8_outfits)
    space = user_outfit_space(
        study.data,
        encode,
        teacher.user_vectors,
        options.figure8_users,
        options.figure8_outfits,
        n_nearest,
        settings.student.alpha_relative or 1.0,
        settings.seed,
    )
    found = layout(space)
    catalog = study.data.catalog
    names = [catalog.user_ids[user] for user in space.users]
    # The sharper of the two: pictures are the point of this figure.
    pictures = max(study.data, study.teacher_data, key=lambda data: int(data.pixels.shape[1]))

    def plot(path: Path) -> None:
        plot_space(path, found, pictures, names)
        replace_file(path.parent / JUDGED_FILE, judged_csv(space, catalog).encode())

    rows = [_row(space, place, name) for place, name in enumerate(names)]
    shown = [int((found.kind == kind).sum()) for kind in (FALSE_NEGATIVE, TEST_POSITIVE)]
    return Artifact(
        NAME,
        TITLE,
        Table(COLUMNS, tuple(rows)),
        (
            "t-SNE of the teacher's vectors by cosine (perplexity at most 30); the axes have no "
            "unit. Users are chosen far from each other, from the half whose positives lie nearest "
            "to them. Rectangles are moved apart where they would cover each other, by "
            f"{found.moved:.1%} of the width on average.",
            f"Of each user's negatives, {n_nearest} are the "
            f"nearest of {CANDIDATES:,} random ones per user, the others random; a negative is "
            "framed as false (d < 0, Eq. 12) in the colour of the user for whom d is smallest. "
            f"Shown are {shown[0]} such negatives and {shown[1]} that are test positives of that "
            "user.",
            "Chance alone rarely draws a test positive as a negative where there are many possible "
            "outfits, so each user's test positives were added to the random draws, and at most a "
            "third of the nearest negatives shown are such.",
            f"Scores and d of every negative shown are in {JUDGED_FILE}; there α = "
            f"{space.alpha:.3g}, relative to the gap between these users' positives and "
            "random negatives.",
            "The paper shows a picture only, of three users.",
        ),
        plot=plot,
    )


def judged_csv(space: Space, catalog: Catalog) -> str:
    """A row for each shown user and each shown negative: ids, the teacher's score and d."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("user_id", "item_ids", "teacher_score", "d", "is_test_positive"))
    negatives = space.negatives
    outfits = [
        ITEM_SEPARATOR.join(catalog.item_ids[item] for item in items[items != PADDING])
        for items in negatives.items
    ]
    for place, user in enumerate(space.users):
        for row, outfit in enumerate(outfits):
            writer.writerow(
                (
                    catalog.user_ids[user],
                    outfit,
                    f"{negatives.scores[place, row]:.6f}",
                    f"{negatives.d[place, row]:.6f}",
                    str(bool(negatives.in_test[place, row])).lower(),
                )
            )
    return text.getvalue()


def _row(space: Space, place: int, name: str) -> tuple[Cell, ...]:
    candidates = space.candidates
    below = candidates.d[place] < 0
    random = np.arange(below.size) < CANDIDATES * len(space.users)
    test = candidates.in_test[place] & ~random
    return (
        name,
        int((space.owner == place).sum()),
        float(space.mean_score[place]),
        int(random.sum()),
        float(below[random].mean()),
        int(test.sum()),
        float(below[test].mean()) if test.any() else None,
    )
