"""Compute the runs that are missing: here, or in worker processes, one for each device.

Every run is claimed by a lock that the operating system gives back when its holder dies, so that
any number of workers and commands may share a folder, and a killed worker blocks nobody.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recjob.errors import RecjobError, TemporaryError, UserError
from recjob.paper.execute import checkpoint_folder, compute_run
from recjob.paper.run import RUN_FILE
from recjob.paper.run_spec import RunSpec
from recjob.paper.shop import ProgressFactory
from recjob.paper.study import Study, failure_file

POLL_SECONDS: Final = 1.0
"""How often a worker with nothing to do looks whether another's run is finished."""
CLAIMS_FOLDER: Final = ".claims"


def unique_runs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """These runs and what they need, each once, parents first."""
    found: dict[str, RunSpec] = {}
    for spec in specs:
        for needed in spec.with_ancestors():
            found.setdefault(needed.key, needed)
    return list(found.values())


def is_done(study: Study, spec: RunSpec) -> bool:
    """True where the run is finished."""
    return (study.run_folder(spec) / RUN_FILE).is_file()


def has_failed(study: Study, spec: RunSpec) -> bool:
    """True where it failed since `forget_failures`."""
    return failure_file(study.run_folder(spec)).is_file()


def forget_failures(study: Study, specs: list[RunSpec]) -> None:
    """Runs that failed in an earlier command are tried again."""
    for spec in specs:
        failure_file(study.run_folder(spec)).unlink(missing_ok=True)


def compute_missing(
    study: Study, specs: list[RunSpec], progress: ProgressFactory, say: Callable[[str], None]
) -> None:
    """Compute `specs` (parents first) but those that are there; returns when all are.

    A training that fails (its loss is not finite, or its teacher teaches nothing) leaves a note
    in `failure_file`, and the others go on.

    Raises UserError and TemporaryError, which would meet every run.
    """
    pending = list(specs)
    while pending:
        before = len(pending)
        pending = [spec for spec in pending if not _settled(study, spec, progress, say)]
        if len(pending) == before:
            time.sleep(POLL_SECONDS)


def _settled(
    study: Study, spec: RunSpec, progress: ProgressFactory, say: Callable[[str], None]
) -> bool:
    """Compute a run if it is this process's turn; True where nothing is left to do for it."""
    if is_done(study, spec) or has_failed(study, spec):
        return True
    if any(has_failed(study, parent) for parent in spec.parents):
        failure_file(study.run_folder(spec)).write_text("what it starts from failed\n")
        return True
    if not all(is_done(study, parent) for parent in spec.parents):
        return False
    folder = study.run_folder(spec)
    with _claimed(folder) as mine:
        if not mine:
            return False
        if is_done(study, spec):
            return True
        begin = time.monotonic()
        try:
            with progress(spec.label) as told:
                run = compute_run(study, spec, told)
        except (UserError, TemporaryError):
            raise
        except RecjobError as error:
            failure_file(folder).write_text(f"{error}\n", encoding="utf-8")
            say(f"{spec.label}: failed ({error})")
            return True
        shutil.rmtree(checkpoint_folder(study, spec), ignore_errors=True)
        auc = f", test AUC {run.test['auc']:.4f}" if run.quality else ""
        say(f"{spec.label}: {time.monotonic() - begin:.0f} s{auc}")
    return True


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold the claim to a run while the block runs; False where another process holds it."""
    claims = folder.parent / CLAIMS_FOLDER
    claims.mkdir(parents=True, exist_ok=True)
    with (claims / folder.name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
