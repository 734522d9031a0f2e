"""Real processes: limits, signals, logs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from recjob.jobs.schedule_process import Cut, Outcome, run_command

FOREVER = 60.0
"""Seconds of a `sleep` that no test waits for."""


def run(
    script: str, log: Path, limit: float = FOREVER, kill: float = FOREVER, stop_after: float = 1e9
) -> Outcome:
    end = time.monotonic() + stop_after
    return run_command(["sh", "-c", script], log, limit, kill, lambda: time.monotonic() >= end)


def test_output_and_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "new" / "a.log"
    outcome = run("echo one; echo 'error: too bad' >&2; exit 5", log)
    assert (outcome.code, outcome.cut, outcome.last_line) == (5, None, "too bad")
    assert log.read_text().splitlines()[1:] == ["one", "error: too bad"]
    assert log.read_text().startswith("$ sh -c ")


def test_a_process_that_was_killed(tmp_path: Path) -> None:
    outcome = run("kill -9 $$", tmp_path / "log")
    assert (outcome.code, outcome.cut) == (-signal.SIGKILL, None)
    assert outcome.last_line == "it wrote nothing", "the command is not what it said"


def test_the_time_limit_asks_first(tmp_path: Path) -> None:
    outcome = run("trap 'echo put in order; exit 130' TERM; sleep 60 & wait", tmp_path / "a", 0.5)
    assert (outcome.code, outcome.cut, outcome.last_line) == (130, Cut.LIMIT, "put in order")
    assert outcome.seconds < FOREVER / 2


def test_who_does_not_listen_is_killed_with_its_children(tmp_path: Path) -> None:
    children = tmp_path / "pids"
    script = f"trap '' TERM; sleep 60 & echo $! > {children}; wait"
    outcome = run(script, tmp_path / "log", 0.5, 0.3)
    assert (outcome.code, outcome.cut) == (-signal.SIGKILL, Cut.LIMIT)
    child = int(children.read_text())
    deadline = time.monotonic() + FOREVER
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)


def test_the_scheduler_ends(tmp_path: Path) -> None:
    outcome = run("sleep 60 & wait", tmp_path / "log", stop_after=0.3)
    assert (outcome.code, outcome.cut) == (-signal.SIGTERM, Cut.STOPPED)


def test_ctrl_c_in_the_terminal_does_not_reach_the_command(tmp_path: Path) -> None:
    outcome = run("test $(ps -o sid= -p $$) -eq $$", tmp_path / "log")
    assert outcome.code == 0, "it leads a session of its own"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run("true", tmp_path / "file" / "log")
