"""Progress bars on standard error, with rates; plain lines where nobody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from recjob import logs
from recjob.jobs.stopping import stop_if_asked

LINE_SECONDS: Final = 30.0
"""How often a log without a terminal gets a line."""


class Bar:
    """One bar; its total may become known only when the work tells."""

    def __init__(self, label: str, total: int, bars: Progress | None) -> None:
        self._label = label
        self._total = total
        self._bars = bars
        self._task = None if bars is None else bars.add_task(label, total=total, rate="", note="")
        self._start = time.monotonic()
        self._last_line = self._start
        self._done = 0

    def by(self, count: int) -> None:
        """`count` more are done."""
        self.to(self._done + count, self._total)

    def to(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` are done; `note` says how it goes. Where a job stops, if asked to."""
        stop_if_asked()
        self._done, self._total = done, total
        now = time.monotonic()
        rate = f"{done / max(now - self._start, 1e-9):,.0f}/s"
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, rate=rate, note=note)
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            logs.say(f"{self._label}: {done:,} of {total:,}, {rate} {note}".rstrip())


class Silence(Bar):
    """A bar that nobody sees."""

    def to(self, done: int, total: int, note: str = "") -> None:
        """Nothing is told; the job stops here, if asked to."""
        stop_if_asked()
        self._done, self._total = done, total


@contextmanager
def progress_bar(label: str, total: int = 0) -> Iterator[Bar]:
    """A bar on standard error while the block runs; of many processes the first one has it."""
    if os.environ.get("RANK", "0") != "0":
        yield Silence(label, total, None)
        return
    if logs.is_json() or not sys.stderr.isatty():
        yield Bar(label, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Bar(label, total, bars)
