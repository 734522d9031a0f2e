"""Draws ahead: what the next steps read is made by a thread while the model works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.1
"""How often a thread that waits for room looks whether it is still wanted."""
_END: Final = object()


def prefetched(source: Iterator[T], ahead: int) -> Generator[T]:
    """The same elements in the same order, up to `ahead` of them made beforehand.

    An error of the source is raised where its element would have come. When the iteration is left
    early (closed) the thread ends with the element that it is at. `ahead` = 0 has no thread.
    """
    if ahead == 0:
        yield from source
        return
    made: queue.Queue[object] = queue.Queue(ahead)
    wanted = threading.Event()
    wanted.set()

    def put(element: object) -> None:
        while wanted.is_set():
            try:
                made.put(element, timeout=LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for element in source:
                put(element)
                if not wanted.is_set():
                    return
            put(_END)
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that asked)
            put(_Failure(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (element := made.get()) is not _END:
            if isinstance(element, _Failure):
                raise element.error
            yield element  # type: ignore[misc]
    finally:
        wanted.clear()
        thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
