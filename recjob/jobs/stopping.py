"""SIGTERM: a job ends by an exception, so that everything is put in order; a shard is finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopping:
    """How a job is asked to stop; the runner makes one for each run.

    Outside of a shard the signal raises KeyboardInterrupt at once, as Ctrl-C does. Within one it
    waits for the shard's end, at most `grace_seconds`.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._in_shard = False
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM while the block runs; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def shard(self) -> Iterator[None]:
        """A part of the work that is kept once it is whole."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        alarm = signal.signal(signal.SIGALRM, self._interrupt)
        self._in_shard = True
        try:
            yield
        finally:
            self._in_shard = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        if self._asked:
            raise KeyboardInterrupt

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self._in_shard:
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, max(self._grace_seconds, 1e-3))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt
