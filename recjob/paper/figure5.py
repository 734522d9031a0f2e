"""Figure 5: FND-CL with every pair of augmentations, beside FND (Sec. 4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any, Final

from recjob.paper.artifact import Artifact, Cell, Table
from recjob.paper.plots import plot_gains
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
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study
from recjob.settings import Augmentation

NAME: Final = "figure5"
TITLE: Final = "Figure 5: FND-CL with different augmentations"
PAPER: Final = (
    f"{PLOT_ONLY} "
    "Its best pairs are erase and replace on Polyvore-630, and erase and erase on Polyvore-519"
    " (Sec. 4.1.4); FND-CL outperforms FND in almost all cases (Sec. 4.6)."
)
AUGMENTATIONS: Final[tuple[Augmentation, ...]] = ("identity", "erase", "replace")
PAIRS: Final = tuple(
    (first, second)
    for first, second in product(AUGMENTATIONS, repeat=2)
    if (first, second) != ("identity", "identity")
)
"""All but two identical views."""


def needs(study: Study) -> Sequence[RunSpec]:
    """FND-CL with each pair, and FND."""
    specs = [spec for pair in PAIRS for spec in student_specs(study, "fnd-cl", **_views(*pair))]
    return [*specs, *student_specs(study, "fnd")]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    points = [student(study, "fnd-cl", **_views(*pair)) for pair in PAIRS]
    fnd = student(study, "fnd")
    names = ["".join(augmentation[0].upper() for augmentation in pair) for pair in PAIRS]
    rows: list[tuple[Cell, ...]] = [
        (found.name, name, *pair, *cells(found))
        for name, pair, found in zip(names, PAIRS, points, strict=True)
    ]
    rows.append((fnd.name, None, None, None, *cells(fnd)))
    told = notes(study, [*points, fnd], PAPER)
    chosen = best(points)
    if chosen is not None:
        told = (f"Best pair on validation data: {' and '.join(PAIRS[chosen])}.", *told)
    shown = panels([("FND-CL", points)], [fnd])
    label = "augmentations of the two views\n(I: identity, E: erase, R: replace)"
    columns = ("Method", "Pair", "First view", "Second view", *METRIC_COLUMNS)
    return Artifact(
        NAME,
        TITLE,
        Table(columns, tuple(rows)),
        told,
        plot=partial(plot_gains, panels=shown, names=names, x_label=label) if shown else None,
    )


def _views(first: Augmentation, second: Augmentation) -> dict[str, Any]:
    # The paper's views, whatever else `student.contrastive` may be set to.
    return {"augmentations": (first, second), "contrastive": "views"}
