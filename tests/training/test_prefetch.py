"""What is drawn ahead is what would have been drawn, and nobody waits for what is not wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from recjob.training.prefetch import prefetched


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_same_elements_in_the_same_order(ahead: int) -> None:
    assert list(prefetched(iter(range(20)), ahead)) == list(range(20))
    assert list(prefetched(iter([]), ahead)) == []
    assert threads() == 0


def test_they_are_made_ahead_and_no_further() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with closing(prefetched(source(), 2)) as elements:
        assert next(elements) == 0
        deadline = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        # One was taken, two wait, and the thread has the next in its hands.
        assert made == [0, 1, 2, 3]
        assert threads() == 1
    assert threads() == 0
    assert len(made) <= 5


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_comes_where_its_element_would_have(ahead: int) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    elements = prefetched(source(), ahead)
    assert [next(elements), next(elements)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(elements)
    assert threads() == 0


def test_whoever_leaves_early_stops_the_thread() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    elements = prefetched(endless(), 2)
    next(elements)
    begin = time.monotonic()
    elements.close()
    assert threads() == 0
    assert time.monotonic() - begin < 2
