"""GPU memory by process: nothing without a driver, the truth with one."""

from __future__ import annotations

import os
import shutil

import pytest

from recjob.monitoring.gpu_memory import GpuMemory


def test_no_driver_means_no_answer() -> None:
    if shutil.which("nvidia-smi"):
        return
    gpu = GpuMemory()
    assert gpu.used_bytes({os.getpid()}) is None
    assert gpu.largest_bytes() is None
    gpu.close()
    gpu.close()


@pytest.mark.gpu
def test_an_allocation_is_seen() -> None:
    import torch

    gpu = GpuMemory()
    torch.zeros(1, device="cuda")
    before = gpu.used_bytes({os.getpid()}) or 0
    block = torch.ones(2**28, dtype=torch.uint8, device="cuda")
    after = gpu.used_bytes({os.getpid()}) or 0
    assert after - before >= 0.9 * block.numel()
    largest = max(
        torch.cuda.get_device_properties(device).total_memory
        for device in range(torch.cuda.device_count())
    )
    assert gpu.largest_bytes() == pytest.approx(largest, rel=0.1)
    gpu.close()
