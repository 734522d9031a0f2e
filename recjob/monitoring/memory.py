"""Peak memory of a stretch of work, of this process and its children, and of their GPUs.

What counts is resident memory that cannot be taken back: not the pages of mapped files, such as the
packed pictures, which fill whatever is free and go when something else needs it. A thread samples;
a peak shorter than a sample's distance can be missed.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from recjob.monitoring.gpu_memory import GpuMemory

SAMPLE_SECONDS = 0.1
"""Reading the sizes of a few processes takes some 50 microseconds."""
CHILDREN_SECONDS = 1.0
"""Finding the children reads every process of the machine, some milliseconds."""
KILOBYTE: Final = 1024
"""Of Linux, which says kB."""
_HELD: Final = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Peak:
    """The largest sums seen so far."""

    memory_bytes: int = 0
    """Of this process and its children; memory that they share counts for each."""
    gpu_memory_bytes: int | None = None
    """Of the same processes, on all GPUs; None where NVML is absent or does not name them."""


class MemoryMonitor:
    """Samples while it is entered; `measure` gives the peak of any stretch, also nested ones."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._children: list[psutil.Process] = []
        self._children_found = -CHILDREN_SECONDS
        self._gpu = GpuMemory()
        self._peaks: list[Peak] = []
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-monitor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._gpu.close()

    @contextmanager
    def measure(self) -> Iterator[Peak]:
        """The peak from the beginning to the end of the block."""
        peak = Peak()
        with self._guard:
            self._peaks.append(peak)
        self._sample()
        try:
            yield peak
        finally:
            self._sample()
            with self._guard:
                # By identity: two stretches with equal peaks are equal.
                self._peaks = [other for other in self._peaks if other is not peak]

    @property
    def largest_gpu_bytes(self) -> int | None:
        """Memory of the machine's largest GPU; None without a GPU."""
        return self._gpu.largest_bytes()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        with self._guard:
            if not self._peaks:
                return
            now = time.monotonic()
            if now - self._children_found >= CHILDREN_SECONDS:
                self._children = self._process.children(recursive=True)
                self._children_found = now
            processes = [self._process, *self._children]
            memory = sum(held_bytes(process) for process in processes)
            gpu = self._gpu.used_bytes({process.pid for process in processes})
            for peak in self._peaks:
                peak.memory_bytes = max(peak.memory_bytes, memory)
                if gpu is not None:
                    peak.gpu_memory_bytes = max(peak.gpu_memory_bytes or 0, gpu)


def held_bytes(process: psutil.Process) -> int:
    """Resident memory of a process without the pages of mapped files; 0 when it has ended.

    All resident memory where the system does not tell them apart.
    """
    try:
        if found := _HELD.findall(Path(f"/proc/{process.pid}/status").read_bytes()):
            return sum(int(kilobytes) for kilobytes in found) * KILOBYTE
        return int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return 0
