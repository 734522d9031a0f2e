"""Start a job from its settings: the home folder, the database, the runner."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recjob.errors import TemporaryError, UserError
from recjob.jobs.runner import JobContext, R, run_job
from recjob.jobs.stages import FULL
from recjob.settings import Settings
from recjob.store.database import open_database


def start_job(
    name: str,
    settings: Settings,
    body: Callable[[JobContext], R],
    parameters: Mapping[str, Any] | None = None,
) -> R:
    """Open the database of the settings and run `body` on it as the job `name`.

    Raises what `prepare_home`, `open_database` and `run_job` raise.
    """
    prepare_home(settings.home)
    with open_database(settings) as database:
        return run_job(name, database, settings, body, parameters)


def prepare_home(home: Path) -> None:
    """Make the home folder where it is missing, and see that files can be made in it.

    Raises UserError where it cannot be, TemporaryError where the disk is full.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        if error.errno in FULL:
            raise TemporaryError(f"{home}: the disk is full; make room and try again") from None
        raise UserError(
            f"{home}: cannot be the home folder ({error.strerror}); set RECJOB_HOME to a folder "
            "that you may write to"
        ) from None
