"""The methods of Tables 2 to 4: how ours is trained, and what the paper says of each.

A peer joins by an entry of `ROWS` with a `specs` of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Method, Study


class Specs(Protocol):
    """The run of a repeat."""

    def __call__(self, study: Study, repeat: int, hard: bool, freeze: bool) -> RunSpec:
        """With `hard` negatives, or with the trunk frozen."""
        ...


@dataclass(frozen=True)
class MethodRow:
    """A row of Tables 2 to 4."""

    name: str
    specs: Specs | None = None
    """None: not built yet."""
    table2: tuple[float, float, float, float] | None = None
    """The paper's AUC and NDCG on Polyvore-630, then on Polyvore-519."""
    table3: tuple[float, float, float, float] | None = None
    """The paper's AUC after 1 and 5 outfits on Polyvore-53, then on Polyvore-32."""
    table4: tuple[float, float, float, float] | None = None
    """As `table2`, with hard negatives."""


def own(method: Method, **overrides: Any) -> Specs:
    """The runs of a method of ours."""

    def spec(study: Study, repeat: int, hard: bool, freeze: bool) -> RunSpec:
        frozen = {"freeze_backbone": True} if freeze else {}
        return study.student_spec(method, repeat, hard, **frozen, **overrides)

    return spec


def _teacher(study: Study, repeat: int, hard: bool, freeze: bool) -> RunSpec:
    return study.teacher_spec(repeat, hard)


ROWS: Final[Sequence[MethodRow]] = (
    MethodRow(
        "Type-Aware", None, (0.7587, 0.5706, 0.7803, 0.6033), (0.7279, 0.7279, 0.7744, 0.7744)
    ),
    MethodRow("SCE-Net", None, (0.7776, 0.5983, 0.7886, 0.6137), (0.7655, 0.7655, 0.7897, 0.7897)),
    MethodRow("Bi-LSTM", None, (0.7830, 0.6230, 0.8025, 0.6554), (0.7861, 0.7861, 0.8169, 0.8169)),
    MethodRow(
        "OutfitNet", None, (0.8503, 0.7287, 0.8504, 0.7196), None, (0.7919, 0.6040, 0.7983, 0.6077)
    ),
    MethodRow(
        "FHN", None, (0.8715, 0.7633, 0.8789, 0.7707), None, (0.7967, 0.6061, 0.8015, 0.6020)
    ),
    MethodRow(
        "LPAE-u",
        None,
        (0.8782, 0.7749, 0.8919, 0.7923),
        (0.7758, 0.7792, 0.8072, 0.8097),
        (0.8169, 0.6526, 0.8217, 0.6579),
    ),
    MethodRow(
        "LPAE-g",
        None,
        (0.8705, 0.7633, 0.8959, 0.8105),
        (0.7765, 0.7735, 0.8262, 0.8253),
        (0.8088, 0.6399, 0.8053, 0.6235),
    ),
    MethodRow("BPR", own("bpr")),
    MethodRow("N-pair", own("n-pair")),
    MethodRow(
        "FND",
        own("fnd"),
        (0.8991, 0.8218, 0.9186, 0.8474),
        (0.7868, 0.7942, 0.8384, 0.8410),
        (0.8355, 0.6874, 0.8390, 0.6911),
    ),
    MethodRow(
        "FND-CL",
        own("fnd-cl"),
        (0.9028, 0.8247, 0.9230, 0.8551),
        (0.7959, 0.8009, 0.8526, 0.8543),
        (0.8424, 0.6999, 0.8476, 0.7050),
    ),
)
"""In the paper's order; BPR and N-pair are those of its Fig. 4."""
TEACHER: Final = MethodRow("Teacher", _teacher)
WEIGHTED: Final = {
    "FND": (0.7972, 0.8098, 0.8453, 0.8531),
    "FND-CL": (0.8033, 0.8156, 0.8551, 0.8641),
}
"""Table 3 of the paper with w-avg; `table3` above is avg."""
