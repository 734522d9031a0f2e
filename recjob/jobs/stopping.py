"""SIGTERM and Ctrl-C: a job ends by an exception, so that everything is put in order.

Libraries may swallow the exception where it meets them at a bad moment (pyarrow does, while it
looks for pandas). So the wish is remembered, and `stop_if_asked` raises again at the next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal


class Stopping:
    """How a job is asked to stop; the runner makes one for each run.

    Ctrl-C, and SIGTERM outside of a shard, raise KeyboardInterrupt at once. Within a shard SIGTERM
    waits for its end, and between steps for the next `check`, at most `grace_seconds`.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._in_shard = False
        self._between_steps = False
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        global _listening
        before = {signal.SIGTERM: signal.signal(signal.SIGTERM, self._terminate)}
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        outer, _listening = _listening, self
        try:
            yield
        finally:
            _listening = outer
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shard(self) -> Iterator[None]:
        """A part of the work that is kept once it is whole."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with self._postponed("_in_shard"):
            yield

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Work whose state can be saved between its steps, at `check`, and nowhere else."""
        with self._postponed("_between_steps"):
            yield

    @contextmanager
    def _postponed(self, flag: Literal["_in_shard", "_between_steps"]) -> Iterator[None]:
        """A stop waits for the block; the end of the grace time, which `_terminate` starts,
        interrupts it. The alarm is heard for as long as the flag may let it be set."""
        before = signal.signal(signal.SIGALRM, self._interrupt)
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, False)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.check()

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not (self._in_shard or self._between_steps):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, max(self._grace_seconds, 1e-3))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt where a stop was asked for and no shard is to be finished."""
        if self._asked and not self._in_shard:
            signal.setitimer(signal.ITIMER_REAL, 0)  # what is saved now may take its time
            raise KeyboardInterrupt


_listening: Stopping | None = None
"""That of the job in this process, while it runs."""


def stop_if_asked() -> None:
    """Stop here if the job was asked to and something swallowed it; for each step of long work."""
    if _listening is not None and threading.current_thread() is threading.main_thread():
        _listening.check()


@contextmanager
def stopping_between_steps() -> Iterator[None]:
    """While the block runs SIGTERM waits for the next `stop_if_asked`, at most the grace time."""
    if _listening is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _listening.between_steps():
        yield
