"""Where workers run: GPUs by their numbers among those that are visible, or a share of the CPU."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recjob import logs
from recjob.errors import SettingsError
from recjob.paper.run_spec import RunSpec
from recjob.paper.shop import Source
from recjob.paper.worker import main
from recjob.paper.workers import VISIBLE, _request, choose_places
from tests.paper.conftest import tiny_settings


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0,cuda:1", "cuda:0, cuda:1"])
def test_a_process_for_each_gpu(device: str) -> None:
    places = choose_places(device, 1, tiny_settings())
    assert [place.name for place in places] == ["cuda:0", "cuda:1"]
    assert [place.variables for place in places] == [{VISIBLE: "0"}, {VISIBLE: "1"}]
    assert {place.device for place in places} == {"cuda"}


@pytest.mark.usefixtures("two_gpus")
def test_numbers_count_among_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "5,7")
    [place] = choose_places("cuda:1", 1, tiny_settings())
    assert (place.number, place.variables) == (1, {VISIBLE: "7"})
    assert len(choose_places("cuda", 2, tiny_settings())) == 4


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:2", "cuda:2: torch finds 2 CUDA devices"),
        ("cuda:x", "cuda:x: is auto, cpu, cuda"),
        ("gpu", "gpu: is auto, cpu, cuda"),
        ("cuda:0,", "is auto, cpu, cuda"),
    ],
)
def test_devices_that_are_not_there(device: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_places(device, 1, tiny_settings())


def test_workers_on_the_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    settings = tiny_settings()
    free = settings.model_copy(
        update={"compute": settings.compute.model_copy(update={"threads": 0})}
    )
    assert [place.threads for place in choose_places("auto", 3, free)] == [2, 2, 2]
    assert [place.threads for place in choose_places("cpu", 1, free)] == [0]
    assert [place.threads for place in choose_places("cpu", 2, settings)] == [1, 1]
    with pytest.raises(SettingsError, match="finds no CUDA device"):
        choose_places("cuda", 1, free)


def test_a_worker_logs_as_its_command_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JSON: not one plain line, and each says what it belongs to."""

    def compute(_: object, specs: list[RunSpec], progress: Any, say: Callable[[str], None]) -> None:
        with progress("teacher"):
            logging.getLogger("library").warning("its word")
            say("done")

    settings = tiny_settings()
    monkeypatch.setattr("recjob.paper.worker.open_study", lambda *_: None)
    monkeypatch.setattr("recjob.paper.worker.compute_missing", compute)
    with logs.standard_error_logs() as ours:
        ours.choose(format="json", level="info")
        [place] = choose_places("cpu", 1, settings)
        request = _request(place, Source(tmp_path, None, None), tmp_path, settings, {}, [])
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    assert main(file) == 0
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in found] == ["its word", "[cpu] done"]
    assert {(line["job"], line["stage"]) for line in found} == {("paper", "teacher")}
