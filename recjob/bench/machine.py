"""The machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

CPU_INFO = Path("/proc/cpuinfo")
WIDE_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""What a speed depends on most."""


class Machine(BaseModel):
    """Processor, cores and versions."""

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: int
    """That this process may use."""
    instructions: tuple[str, ...]
    gpu: str | None
    python: str
    numpy: str
    torch: str


def this_machine() -> Machine:
    """What is known of this machine."""
    facts: dict[str, str] = {}
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", "").split())
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        instructions=tuple(name for name in WIDE_INSTRUCTIONS if name in flags),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(),
        numpy=np.__version__,
        torch=torch.__version__,
    )
