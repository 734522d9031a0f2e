"""One command of the schedule: a process with a time limit, its own log, and what became of it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.1
"""How often a process is looked at: nothing beside the seconds that a command takes to start."""
LOG_TAIL_BYTES: Final = 8192
LONGEST_REASON: Final = 500
"""Characters of a log's last line that the ledger keeps."""


class Cut(Enum):
    """Why a process was stopped."""

    LIMIT = "limit"
    STOPPED = "stopped"
    """The scheduler ends."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    """Exit code; minus the signal's number where one killed it."""
    cut: Cut | None
    seconds: float
    last_line: str
    """Of its log: the error, where there was one."""


def run_command(
    command: Sequence[str],
    log: Path,
    limit_seconds: float,
    kill_seconds: float,
    stopping: Callable[[], bool],
) -> Outcome:
    """Run `command` to its end, its output in the file `log`.

    After `limit_seconds`, or once `stopping` holds, it gets SIGTERM, and after `kill_seconds` more
    it and its children get SIGKILL. Raises OSError where the log or the process cannot be made.
    """
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        began = output.tell()
        # A session of its own: Ctrl-C in a terminal is for the scheduler, which tells its jobs.
        process = subprocess.Popen(  # noqa: S603
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    cut: Cut | None = None
    asked = 0.0
    killed = False
    while process.poll() is None:
        now = time.monotonic()
        if cut is None:
            if stopping():
                cut = Cut.STOPPED
            elif now - start >= limit_seconds:
                cut = Cut.LIMIT
            if cut is not None:
                process.terminate()
                asked = now
        elif not killed and now - asked >= kill_seconds:
            os.killpg(process.pid, signal.SIGKILL)
            killed = True
        time.sleep(POLL_SECONDS)
    return Outcome(process.returncode, cut, time.monotonic() - start, _last_line(log, began))


def _last_line(log: Path, began: int) -> str:
    """The last line of what the command wrote, which begins at a byte of its log."""
    with log.open("rb") as file:
        file.seek(max(began, log.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    written = [line.strip() for line in lines if line.strip()]
    return written[-1].removeprefix("error: ")[:LONGEST_REASON] if written else "it wrote nothing"
