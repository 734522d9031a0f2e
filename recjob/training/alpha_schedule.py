"""How alpha of Eq. 12 goes over a training: beyond the paper, which holds it constant."""

from __future__ import annotations

import math
from typing import Literal

AlphaSchedule = Literal["constant", "linear", "cosine"]


def alpha_factor(kind: AlphaSchedule, start: float, step: int, steps: int) -> float:
    """What alpha is multiplied by at `step`, counted from 0, of a training of `steps`.

    "constant" is 1 throughout. The others are `start` at the first step, and 1 from the last one
    on: "linear" in a straight line, "cosine" in half a wave, level at both ends. A training of one
    step has no way to go, and gets 1.
    """
    if kind == "constant" or step >= steps - 1:
        return 1.0
    way = step / (steps - 1)
    if kind == "cosine":
        way = (1 - math.cos(math.pi * way)) / 2
    return start + (1 - start) * way
