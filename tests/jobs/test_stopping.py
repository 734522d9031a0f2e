"""A job that is asked to stop does so, at once or at the end of a shard."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from recjob.jobs.progress import progress_bar
from recjob.jobs.stopping import Stopping, stop_if_asked, stopping_between_steps

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT ignored, and a job leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_at_once(number: signal.Signals) -> None:
    went_on = False

    def job() -> None:
        nonlocal went_on
        with Stopping(5).listening():
            signal.raise_signal(number)
            went_on = True

    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        job()
    assert not went_on
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_at_the_next_step_where_a_library_swallowed_it(number: signal.Signals) -> None:
    steps = 0

    def job() -> None:
        nonlocal steps
        with Stopping(5).listening(), progress_bar("steps", 9) as bar:
            for _ in range(9):
                bar.by(1)
                steps += 1
                if steps == 3:
                    with contextlib.suppress(BaseException):
                        signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        job()
    assert steps == 3


def test_a_shard_is_finished_first() -> None:
    finished = False

    def job() -> None:
        nonlocal finished
        stopping = Stopping(5)
        with stopping.listening(), stopping.shard():
            signal.raise_signal(signal.SIGTERM)
            stop_if_asked()
            finished = True

    with pytest.raises(KeyboardInterrupt):
        job()
    assert finished


def test_a_shard_that_takes_too_long_is_given_up() -> None:
    def job() -> None:
        stopping = Stopping(0.05)
        with stopping.listening(), stopping.shard():
            signal.raise_signal(signal.SIGTERM)
            time.sleep(5)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        job()
    assert time.monotonic() - start < 2


def test_a_job_that_ended_stops_nobody() -> None:
    def job() -> None:
        with Stopping(5).listening():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        job()
    stop_if_asked()
    with Stopping(5).listening():
        stop_if_asked()


def test_between_steps_the_next_one_stops_it() -> None:
    """What is done before and after the check is whole."""
    reached: list[str] = []

    def job() -> None:
        with Stopping(5).listening(), stopping_between_steps(), progress_bar("steps", 9) as bar:
            for _ in range(9):
                signal.raise_signal(signal.SIGTERM)
                reached.append("whole")
                bar.by(1)
                reached.append("too far")

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt):
        job()
    assert reached == ["whole"]
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_step_that_takes_too_long_is_given_up() -> None:
    def job() -> None:
        with Stopping(0.05).listening(), stopping_between_steps():
            signal.raise_signal(signal.SIGTERM)
            time.sleep(5)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        job()
    assert time.monotonic() - start < 2


def test_steps_without_a_job_are_stopped_by_nobody() -> None:
    with stopping_between_steps():
        stop_if_asked()
