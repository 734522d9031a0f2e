"""A worker process: `python -m recjob.paper.worker REQUEST` computes the runs of a study."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from recjob import logs
from recjob.errors import RecjobError
from recjob.paper.catalogue import artifact_module
from recjob.paper.opening import open_study
from recjob.paper.shop import Source
from recjob.paper.work import compute_missing, unique_runs
from recjob.paper.workers import COMMAND, end_with_parent, line_progress
from recjob.settings import Settings


def main(request: Path) -> int:
    """Compute what the request asks for; an error's message goes to standard output."""
    values = json.loads(request.read_text(encoding="utf-8"))
    with logs.standard_error_logs() as ours, logs.in_job(COMMAND, None):
        return _compute(values, ours)


def _compute(values: dict[str, Any], ours: logs.Logs) -> int:
    place = values["place"]
    cold = None if values["cold"] is None else Path(values["cold"])
    source = Source(Path(values["folder"]), values["users"], cold)
    progress = partial(line_progress, place)
    try:
        settings = Settings.model_validate(values["settings"])
        ours.configure(settings.logging)
        study = open_study(source, Path(values["out"]), settings, progress)
        modules = [artifact_module(name) for name in values["names"]]
        specs = unique_runs(spec for module in modules for spec in module.needs(study))
        compute_missing(study, specs, progress, lambda text: logs.say(f"[{place}] {text}"))
    except RecjobError as error:
        sys.stdout.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    end_with_parent(lambda: os._exit(1))
    sys.exit(main(Path(sys.argv[1])))
