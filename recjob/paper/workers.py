"""Worker processes that share the missing runs of a study: one or more for each device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

import recjob
from recjob import logs
from recjob.errors import RecjobError, SettingsError, TemporaryError, UserError
from recjob.paper.shop import Progress, Source
from recjob.settings import Settings

COMMAND: Final = "paper"
"""What lines of the log belong to; no ledger knows of it, so there is no run id."""
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
LINE_SECONDS: Final = 30.0
"""How often a worker tells how far it is."""
REQUESTS_FOLDER: Final = ".requests"


@dataclass(frozen=True)
class Place:
    """Where one worker computes."""

    name: str
    """"cpu" or "cuda:1"."""
    variables: dict[str, str]
    """Of its environment."""
    device: str
    """`compute.device` of its settings."""
    threads: int
    """`compute.threads` of its settings; 0: torch's choice."""
    number: int = 0
    """Of the GPU, among those that this process sees."""


def choose_places(device: str, workers: int, settings: Settings) -> list[Place]:
    """Where workers run.

    Args:
        device: "auto" (every GPU, else the CPU), "cpu", "cuda" (every GPU), or GPUs by number:
            "cuda:0,cuda:1".
        workers: on each device.
        settings: `compute.threads`; workers on one CPU share its cores.

    Raises SettingsError for a device that is not there.
    """
    found = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and not found):
        cores = settings.compute.threads or len(os.sched_getaffinity(0))
        threads = settings.compute.threads if workers == 1 else max(1, cores // workers)
        return [Place("cpu", {VISIBLE: ""}, "cpu", threads) for _ in range(workers)]
    if device in ("auto", "cuda"):
        numbers = list(range(found))
        if not numbers:
            raise SettingsError("--device cuda: torch finds no CUDA device here")
    else:
        numbers = [_number(name.strip(), found) for name in device.split(",")]
    # The numbers count among the GPUs that this process may see.
    visible = os.environ.get(VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(found)]
    threads = settings.compute.threads
    return [
        Place(f"cuda:{number}", {VISIBLE: names[number].strip()}, "cuda", threads, number)
        for number in numbers
        for _ in range(workers)
    ]


def module_environment() -> dict[str, str]:
    """Variables for `python -m recjob...` from any folder: a checkout is not installed."""
    paths = [str(Path(recjob.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _number(name: str, found: int) -> int:
    kind, _, number = name.partition(":")
    if kind != "cuda" or not number.isdigit():
        raise SettingsError(f"--device {name}: is auto, cpu, cuda, or GPUs as cuda:0,cuda:1")
    if int(number) >= found:
        raise SettingsError(f"--device {name}: torch finds {found} CUDA devices here")
    return int(number)


def run_workers(
    places: list[Place], source: Source, out: Path, settings: Settings, names: list[str]
) -> None:
    """Compute the runs of tables and figures in one process for each of `places`.

    Raises what a worker met that would meet every run, and RecjobError where one crashed and left
    runs undone; the caller looks which are.
    """
    folder = out / REQUESTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    processes: list[subprocess.Popen[str]] = []
    try:
        for number, place in enumerate(places):
            compute = {"device": place.device, "threads": place.threads}
            request = folder / f"{os.getpid()}-{number}.json"
            request.write_text(json.dumps(_request(place, source, out, settings, compute, names)))
            processes.append(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "recjob.paper.worker", str(request)],
                    env=module_environment() | place.variables,
                    stdin=subprocess.PIPE,  # its end tells the worker that we are gone
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        _wait(processes)
    finally:
        for process in processes:
            process.terminate()
            process.communicate()
        for number in range(len(places)):
            (folder / f"{os.getpid()}-{number}.json").unlink(missing_ok=True)


def _request(
    place: Place,
    source: Source,
    out: Path,
    settings: Settings,
    compute: dict[str, Any],
    names: list[str],
) -> dict[str, Any]:
    values = settings.model_dump(mode="json", exclude={"database_url"})
    values["compute"] |= compute
    values["logging"] = logs.chosen(settings.logging).model_dump(mode="json")
    return {
        "place": place.name,
        "folder": str(source.folder.resolve()),
        "users": source.users,
        "cold": None if source.cold is None else str(source.cold.resolve()),
        "out": str(out.resolve()),
        "settings": values,
        "names": names,
    }


def _wait(processes: list[subprocess.Popen[str]]) -> None:
    """Until all have ended, or one met something that every run would meet."""
    running = list(processes)
    while running:
        time.sleep(0.1)
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            assert process.stdout is not None
            told = process.stdout.read().strip()
            if process.returncode and told:
                kinds = {UserError.exit_code: UserError, TemporaryError.exit_code: TemporaryError}
                raise kinds.get(process.returncode, RecjobError)(told)


@contextmanager
def line_progress(place: str, label: str) -> Iterator[Progress]:
    """Progress of a worker: a line on standard error now and then."""
    last = time.monotonic()

    def told(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            logs.say(f"[{place}] {label}: {done:,} of {total:,} {note}".rstrip())

    with logs.in_stage(label):
        yield told


def end_with_parent(end: Callable[[], object]) -> None:
    """Call `end` once standard input is closed: the process that started this one is gone."""

    def watch() -> None:
        # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
        while os.read(0, 1):
            pass
        end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
