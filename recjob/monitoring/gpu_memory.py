"""GPU memory by process, from NVML: the driver's own library, so there is nothing to install.

Torch's counter misses what TensorRT, FAISS and the CUDA context take.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from dataclasses import dataclass

_SUCCESS = 0
_INSUFFICIENT_SIZE = 7
_NOT_AVAILABLE = 2**64 - 1
"""NVML's word for a size that the driver does not tell."""
_VERSION_BYTES = 80
"""NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE."""
_FIRST_CAPACITY = 64
"""Processes per GPU that are asked for at first."""


class _ProcessInfo(ctypes.Structure):
    """nvmlProcessInfo_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class GpuMemory:
    """Reads NVML; without a driver every answer is None."""

    def __init__(self) -> None:
        self._devices: list[ctypes.c_void_p] = []
        self._nvml: ctypes.CDLL | None = None
        try:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if nvml.nvmlInit_v2() != _SUCCESS:
            return
        self._nvml = nvml
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            device = ctypes.c_void_p()
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == _SUCCESS:
                self._devices.append(device)

    def used_bytes(self, pids: Collection[int]) -> int | None:
        """Memory of these processes on all GPUs; None where NVML names none of them.

        In a container without the host's process numbers it may name none.
        """
        found = [
            info.used_bytes
            for device in self._devices
            for info in self._processes(device)
            if info.pid in pids and info.used_bytes != _NOT_AVAILABLE
        ]
        return sum(found) if found else None

    def largest_bytes(self) -> int | None:
        """Memory of the largest GPU, which is what a job can have; None without a GPU."""
        totals = []
        for device in self._devices:
            memory = _Memory()
            if self._nvml is not None and (
                self._nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == _SUCCESS
            ):
                totals.append(int(memory.total))
        return max(totals, default=None)

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
        self._nvml, self._devices = None, []

    def _processes(self, device: ctypes.c_void_p) -> list[_ProcessInfo]:
        assert self._nvml is not None
        capacity = _FIRST_CAPACITY
        while True:
            count = ctypes.c_uint(capacity)
            infos = (_ProcessInfo * capacity)()
            status = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(
                device, ctypes.byref(count), infos
            )
            if status != _INSUFFICIENT_SIZE:
                return list(infos[: count.value]) if status == _SUCCESS else []
            capacity = max(2 * capacity, count.value)


@dataclass(frozen=True)
class NvidiaDriver:
    """What NVML says of the driver."""

    version: str
    devices: int


def nvidia_driver() -> NvidiaDriver | None:
    """The driver and how many GPUs it has; None without one."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != _SUCCESS:
        return None
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        version = ctypes.create_string_buffer(_VERSION_BYTES)
        told = nvml.nvmlSystemGetDriverVersion(version, ctypes.c_uint(_VERSION_BYTES))
        return NvidiaDriver(version.value.decode() if told == _SUCCESS else "?", count.value)
    finally:
        nvml.nvmlShutdown()
