"""Peaks are seen where they happen, children included."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from recjob.monitoring import memory
from recjob.monitoring.memory import MemoryMonitor

MEGABYTE = 2**20
LONG_ENOUGH = 4 * memory.SAMPLE_SECONDS


def allocate(megabytes: int) -> None:
    """Touch so much memory, hold it for some samples, give it back."""
    block = np.ones(megabytes * MEGABYTE, np.uint8)
    time.sleep(LONG_ENOUGH)
    assert block[-1] == 1


def test_the_peak_of_a_stretch_that_has_ended_does_not_count_for_the_next() -> None:
    with MemoryMonitor() as monitor:
        with monitor.measure() as before:
            pass
        with monitor.measure() as outer:
            with monitor.measure() as high:
                allocate(200)
            with monitor.measure() as low:
                time.sleep(LONG_ENOUGH)
    assert high.memory_bytes - before.memory_bytes > 180 * MEGABYTE
    assert low.memory_bytes - before.memory_bytes < 100 * MEGABYTE
    assert outer.memory_bytes == high.memory_bytes


def test_children_count() -> None:
    program = (
        f"import time; block = bytearray(b'x') * {150 * MEGABYTE}; "
        "print(1, flush=True); time.sleep(30)"
    )
    with MemoryMonitor() as monitor:
        with monitor.measure() as before:
            pass
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with monitor.measure() as during:
                time.sleep(memory.CHILDREN_SECONDS + LONG_ENOUGH)
            child.kill()
    assert during.memory_bytes - before.memory_bytes > 140 * MEGABYTE
