"""Mutated inputs of every kind end in success or one line, and leave nothing half written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.fixtures_database import scratch_folder
from tests.fuzz.groups import GROUPS, make_targets
from tests.fuzz.property_runs import run_inputs
from tests.fuzz.target import outcome

ROOT: Final = Path(__file__).resolve().parents[2]
SEED: Final = int(os.environ.get("FUZZ_SEED", "0"))
"""Another one finds other faults: `make fuzz FUZZ_SEED=7`."""
SHORT: Final = 100
"""Inputs of each group in `make test`."""
DRAWN: Final = 5_000
"""Inputs of each group by hypothesis, which knows their forms,"""
GUIDED: Final = 15_000
"""and by atheris, which is faster."""


@pytest.mark.parametrize("group", GROUPS)
def test_valid_inputs_are_used(group: str) -> None:
    with scratch_folder() as scratch:
        for target in make_targets(group, scratch):
            ends = {seed[:60]: outcome(target, seed) for seed in target.seeds}
            assert set(ends.values()) == {"used"}, (target.name, ends)


@pytest.mark.parametrize("group", GROUPS)
def test_some_mutated_inputs(group: str) -> None:
    drawn(group, SHORT)


@pytest.mark.system
@pytest.mark.parametrize("group", GROUPS)
def test_many_mutated_inputs(group: str) -> None:
    ended = drawn(group, DRAWN)
    with scratch_folder() as scratch:
        names = [target.name for target in make_targets(group, scratch)]
    # The mutations are no mere noise: of every target some were refused, of most some were used.
    assert all(ended[f"{name} refused"] for name in names), ended
    assert sum(ended[f"{name} used"] > 0 for name in names) > len(names) / 2, ended


def drawn(group: str, count: int) -> Counter[str]:
    with scratch_folder() as scratch:
        ended = run_inputs(make_targets(group, scratch), count, SEED)
    assert ended.total() >= count
    return ended


@pytest.mark.system
@pytest.mark.skipif(
    sys.platform != "linux",
    reason="atheris is made for Linux alone, and pyproject.toml names it there alone",
)
@pytest.mark.parametrize("group", GROUPS)
def test_many_guided_inputs(group: str) -> None:
    with scratch_folder() as scratch:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz.guided",
                group,
                str(scratch),
                str(GUIDED),
                str(SEED),
            ],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    assert ended.returncode == 0, ended.stdout[-20_000:]
    done = re.search(r"stat::number_of_executed_units:\s+(\d+)", ended.stdout)
    assert done is not None
    assert int(done[1]) >= GUIDED, ended.stdout[-1000:]
