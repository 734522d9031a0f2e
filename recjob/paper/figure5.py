"""Figure 5: FND-CL with every pair of augmentations, beside FND (Sec. 4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

from recjob.paper.artifact import Artifact, Table
from recjob.paper.plots import plot_gains
from recjob.paper.points import METRIC_COLUMNS, best, notes, panels, point, student_specs
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study
from recjob.settings import Augmentation

NAME: Final = "figure5"
TITLE: Final = "Figure 5: FND-CL with different augmentations"
PAPER: Final = (
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
    specs = [spec for pair in PAIRS for spec in _fnd_cl(study, pair)]
    return [*specs, *student_specs(study, "fnd")]


def build(study: Study) -> Artifact:
    """The table and the plot."""
    points = [point(study, _fnd_cl(study, pair)) for pair in PAIRS]
    fnd = point(study, student_specs(study, "fnd"))
    names = [_name(pair) for pair in PAIRS]
    rows = [
        ("FND-CL", name, *pair, *found.cells)
        for name, pair, found in zip(names, PAIRS, points, strict=True)
    ]
    rows.append(("FND", None, None, None, *fnd.cells))
    told = notes(study, [*points, fnd], PAPER)
    chosen = best(points)
    if chosen is not None:
        told = (f"Best pair on validation data: {names[chosen]}.", *told)

    def plot(path: Path) -> None:
        plot_gains(
            path,
            panels([("FND-CL", points)], [("FND", fnd)]),
            names,
            "augmentations of the two views (I: identity, E: erase, R: replace)",
        )

    columns = ("method", "pair", "first view", "second view", *METRIC_COLUMNS)
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), told, plot=plot)


def _fnd_cl(study: Study, pair: tuple[Augmentation, Augmentation]) -> list[RunSpec]:
    # The paper's views, whatever else `student.contrastive` may be set to.
    return student_specs(study, "fnd-cl", augmentations=pair, contrastive="views")


def _name(pair: tuple[Augmentation, Augmentation]) -> str:
    return "".join(augmentation[0].upper() for augmentation in pair)
