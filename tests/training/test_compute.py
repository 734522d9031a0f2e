"""Device and precision are what the settings ask for and the machine has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recjob.errors import SettingsError
from recjob.ranking.top_k import cpu_has_bf16
from recjob.settings import ComputeSettings
from recjob.training.compute import Compute, choose_compute


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precision_of_the_convolutions(precision: str, expected: torch.dtype) -> None:
    compute = choose_compute(
        ComputeSettings.model_validate({"device": "cpu", "precision": precision})
    )
    assert str(compute) == f"cpu {precision}"
    with compute.autocast():
        output = nn.Conv2d(3, 4, 3)(torch.rand(1, 3, 8, 8))
    assert output.dtype == expected


def test_auto_takes_bf16_where_the_cpu_multiplies_it() -> None:
    assert choose_compute(ComputeSettings(device="cpu")).bf16 == cpu_has_bf16()


def test_cuda_is_used_or_missed() -> None:
    settings = ComputeSettings(device="cuda")
    if torch.cuda.is_available():
        assert choose_compute(settings) == Compute(torch.device("cuda"), bf16=True)
        assert choose_compute(ComputeSettings()).device.type == "cuda"
    else:
        with pytest.raises(SettingsError, match=r'compute\.device is "cuda", but torch finds no'):
            choose_compute(settings)
        assert choose_compute(ComputeSettings()).device.type == "cpu"


def test_threads() -> None:
    choose_compute(ComputeSettings(device="cpu", threads=2))
    assert torch.get_num_threads() == 2
    choose_compute(ComputeSettings(device="cpu"))
    assert torch.get_num_threads() == 2
