"""Peaks are seen where they happen, children included."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from recjob.monitoring import memory
from recjob.monitoring.memory import MemoryMonitor, held_bytes

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


def test_pages_of_a_mapped_file_do_not_count_and_shared_memory_does(tmp_path: Path) -> None:
    size = 150 * MEGABYTE
    (tmp_path / "pixels").write_bytes(bytes(size))
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r")
    shared = mmap.mmap(-1, size)
    try:
        with MemoryMonitor() as monitor:
            with monitor.measure() as before:
                pass
            with monitor.measure() as reading:
                assert mapped[:: mmap.PAGESIZE].sum() == 0
                time.sleep(LONG_ENOUGH)
            with monitor.measure() as sharing:
                np.frombuffer(shared, np.uint8)[:] = 1
                time.sleep(LONG_ENOUGH)
    finally:
        shared.close()
    assert 140 * MEGABYTE < sharing.memory_bytes - reading.memory_bytes < 160 * MEGABYTE
    assert reading.memory_bytes - before.memory_bytes < 20 * MEGABYTE


def test_a_process_that_has_ended_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert held_bytes(process) == 0, "a process that nobody has asked for yet"
    assert held_bytes(process) == 0
