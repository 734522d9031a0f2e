"""Progress bars on standard error, with rates; plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
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

LINE_SECONDS: Final = 30.0
"""How often a log without a terminal gets a line."""

Advance = Callable[[int, str], None]
"""Told (done in all, a word on how it goes)."""


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Advance]:
    """A bar of `total` steps on standard error while the block runs."""
    start = time.monotonic()

    def rate(done: int) -> str:
        return f"{done / max(time.monotonic() - start, 1e-9):,.0f}/s"

    if not sys.stderr.isatty():
        last = start

        def say(done: int, note: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= LINE_SECONDS:
                last = now
                text = f"{label}: {done:,}/{total:,}, {rate(done)} {note}"
                sys.stderr.write(text.rstrip() + "\n")
                sys.stderr.flush()

        yield say
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
        task = bars.add_task(label, total=total, rate="", note="")

        def show(done: int, note: str) -> None:
            bars.update(task, completed=done, rate=rate(done), note=note)

        yield show


@contextmanager
def steps_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar whose total is only known once the work tells: (done, total, note)."""
    bar: Advance | None = None
    opened = None

    def tell(done: int, total: int, note: str) -> None:
        nonlocal bar, opened
        if bar is None:
            opened = progress_bar(label, total)
            bar = opened.__enter__()
        bar(done, note)

    try:
        yield tell
    finally:
        if opened is not None:
            opened.__exit__(None, None, None)
