"""A GPU engine that fails, or lies, costs speed and not the night."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from recjob.ranking import gpu_trial, triton_top_k
from recjob.ranking.blocks import Exclusions
from recjob.ranking.gpu_trial import gpu_engine_works
from recjob.ranking.torch_top_k import torch_top_k


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    gpu_engine_works.cache_clear()
    yield
    gpu_engine_works.cache_clear()


def right(users: Any, outfits: Any, k: int, exclude: Any, allowed: Any) -> Any:
    return torch_top_k(users, outfits, k, Exclusions(*exclude), allowed)


def wrong(users: Any, outfits: Any, k: int, exclude: Any, allowed: Any) -> Any:
    indices, scores = right(users, outfits, k, exclude, allowed)
    scores[-1, -1] = np.nextafter(scores[-1, -1], np.float32(2))
    return indices, scores


def fails(*_: Any) -> Any:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


def test_one_that_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_top_k, "triton_top_k", right)
    assert gpu_engine_works()


@pytest.mark.parametrize(
    ("engine", "message"),
    [(wrong, "other lists than the CPU's"), (fails, "(no kernel image is available); the CPU")],
)
def test_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine: Any,
    message: str,
) -> None:
    monkeypatch.setattr(triton_top_k, "triton_top_k", engine)
    assert not gpu_engine_works()
    assert not gpu_engine_works()
    [record] = [record for record in caplog.records if record.name == gpu_trial.__name__]
    assert message in record.getMessage()  # told once
