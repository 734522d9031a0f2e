"""Inputs that atheris mutates byte by byte, guided by which lines of ours they reach.

    python -m tests.fuzz.guided GROUP FOLDER INPUTS SEED     or     ... GROUP FOLDER --repeat BASE64

A process of its own: libFuzzer never returns, and a library that dies takes it along. The first
byte of an input chooses its target. A bad input is printed in Base64, for `--repeat`.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Final

import atheris

from tests.fuzz.groups import make_targets
from tests.fuzz.target import FuzzError, Target, outcome

OURS: Final = [
    f"recjob.{part}"
    for part in ("catalog", "inference", "jobs", "ranking", "settings", "store", "training")
]
LONGEST: Final = 4096
"""Bytes of an input; longer seeds are cut here, where the rest is pixels or weights."""


def main() -> None:
    """Fuzz a group; exits with another code than 0 where an input ended badly."""
    group, folder, *how = sys.argv[1:]
    scratch = Path(folder)
    with atheris.instrument_imports(include=OURS):
        targets = make_targets(group, scratch)
    wheel = [target for target in targets for _ in range(target.weight)]

    def use(data: bytes) -> None:
        if data:
            try:
                outcome(wheel[data[0] % len(wheel)], data[1:])
            except FuzzError:
                sys.stderr.write(f"repeat: {group} {base64.b64encode(data).decode()}\n")
                raise

    if how[0] == "--repeat":
        use(base64.b64decode(how[1]))
        return
    corpus = scratch / "corpus"
    corpus.mkdir()
    for place, target in enumerate(wheel):
        write_seeds(corpus, place, target)
    inputs, seed = how
    options = [f"-runs={inputs}", f"-seed={seed}", "-print_final_stats=1", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={scratch}/", str(corpus)], use)
    atheris.Fuzz()


def write_seeds(corpus: Path, place: int, target: Target) -> None:
    """The target's valid inputs as libFuzzer's."""
    for number, seed in enumerate(target.seeds):
        (corpus / f"{place}-{number}").write_bytes(bytes([place]) + seed[:LONGEST])


if __name__ == "__main__":
    main()
