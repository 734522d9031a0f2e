"""Where a model runs and in what precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from recjob.errors import SettingsError
from recjob.ranking.top_k import cpu_has_bf16
from recjob.settings import ComputeSettings


@dataclass(frozen=True)
class Compute:
    """A device and a precision; `autocast` is entered around the convolutional part."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision where it is on, else nothing."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def __str__(self) -> str:
        return f"{self.device.type} {'bf16' if self.bf16 else 'fp32'}"


def choose_compute(settings: ComputeSettings) -> Compute:
    """The device and precision that the settings ask for and this machine has.

    Raises SettingsError where CUDA is asked for and absent.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise SettingsError('compute.device is "cuda", but torch finds no CUDA device here')
    device = torch.device("cuda" if cuda and settings.device != "cpu" else "cpu")
    if settings.precision == "auto":
        return Compute(device, device.type == "cuda" or cpu_has_bf16())
    return Compute(device, settings.precision == "bf16")
