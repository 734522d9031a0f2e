"""Many mutated inputs of a group, drawn by hypothesis from a seed that is printed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.fuzz.target import Target, outcome


def run_inputs(targets: Sequence[Target], count: int, seed: int) -> Counter[str]:
    """Use `count` inputs; how each target's ended. Raises FuzzError with the smallest bad one."""
    sys.stderr.write(f"fuzzing: {count} inputs from seed {seed}\n")
    ended: Counter[str] = Counter()
    places = [place for place, target in enumerate(targets) for _ in range(target.weight)]
    inputs = st.sampled_from(places).flatmap(
        lambda place: st.tuples(st.just(place), targets[place].inputs)
    )

    @hypothesis.seed(seed)
    @hypothesis_settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs)
    def each(case: tuple[int, bytes]) -> None:
        place, data = case
        ended[f"{targets[place].name} {outcome(targets[place], data)}"] += 1

    each()
    return ended
