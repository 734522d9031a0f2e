"""A training that was cut short goes on to the very model that it would have become."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recjob.model import backbone
from recjob.settings import TrainingSettings
from recjob.training.checkpoint import (
    CheckpointFolder,
    Keeper,
    pack_optimizer,
    restore_optimizer,
    unpack,
)
from recjob.training.optimise import make_optimizer
from tests.training.tiny_runs import RARELY, ROLES, Told, eventful, long_run, train


class KilledError(Exception):
    """Stands for a signal that leaves no time to save anything."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbone.FULLY_CONNECTED_WIDTH, "s", 32)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """To the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stopped_at(step: int, error: type[BaseException]) -> Told:
    """Raises `error` when so many steps of the training are done."""

    def told(done: int, total: int, note: str) -> None:
        if done == step:
            raise error

    return told


@pytest.mark.parametrize("role", ROLES)
def test_cut_short_twice_it_becomes_the_same_model(role: str, tmp_path: Path) -> None:
    """Told to stop in the middle of an epoch, which saves; then killed in the next epoch."""
    settings = eventful(RARELY)
    steps: list[int] = []
    expected = train(role, settings, None, lambda done, total, note: steps.append(done))
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        train(role, settings, checkpoints, stopped_at(3, KeyboardInterrupt))
    with pytest.raises(KilledError):
        train(role, settings, checkpoints, stopped_at(5, KilledError))
    rest: list[int] = []
    got = train(role, settings, checkpoints, lambda done, total, note: rest.append(done))
    assert rest == steps[3:]
    assert equal(got, expected)


def test_patience_and_plateau_go_on(tmp_path: Path) -> None:
    """Best epoch, patience and rates are those of one long run."""
    settings = eventful(
        RARELY,
        optimizer="sgd",
        epochs=8,
        patience=3,
        plateau_patience=1,
        learning_rate=1e-5,
        size="xs",
    )
    # So few lists are ranked that the AUC stays where it is.
    few = settings.evaluation.model_copy(update={"max_validation_positives": 1})
    settings = settings.model_copy(update={"evaluation": few})
    steps: list[int] = []
    expected = train("teacher", settings, None, lambda done, total, note: steps.append(done))
    assert 3 < len(expected["losses"]) < 8  # patience ended it, and a plateau was seen before
    checkpoints = CheckpointFolder(tmp_path)
    for stop in (3, steps[-3]):
        with pytest.raises(KeyboardInterrupt):
            train("teacher", settings, checkpoints, stopped_at(stop, KeyboardInterrupt))
    assert equal(train("teacher", settings, checkpoints), expected)


def test_a_state_is_saved_when_it_is_due(tmp_path: Path) -> None:
    saved: list[bytes] = []
    keepers = [Keeper(CheckpointFolder(tmp_path), {}, minutes) for minutes in (0.001, 60)]
    for keeper in keepers:
        for _ in range(20):
            keeper.save_if_due(lambda: ({}, len(saved)))
            time.sleep(0.01)
        saved.append(keeper.folder.read() if keeper.folder else b"")
        CheckpointFolder(tmp_path).remove()
    assert saved[0]
    assert not saved[1]


@pytest.mark.system
@pytest.mark.parametrize("role", ROLES)
def test_killed_by_the_system_it_becomes_the_same_model(role: str, tmp_path: Path) -> None:
    """SIGKILL of a real process at a step that nobody chose."""
    settings = long_run()
    expected = train(role, settings)
    command = [sys.executable, "-m", "tests.training.tiny_runs", role, str(tmp_path)]
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        more = random.Random().randrange(6)
        done = 0
        for line in process.stdout:
            done = int(line)
            if checkpoints.read():
                more -= 1
            if more < 0:
                break
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
    steps: list[int] = []
    got = train(role, settings, checkpoints, lambda done, total, note: steps.append(done))
    assert 1 < steps[0] <= done + 2
    assert equal(got, expected)


def test_a_checkpoint_of_another_training_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        train("teacher", eventful(RARELY), checkpoints, stopped_at(1, KeyboardInterrupt))
    assert checkpoints.read()
    other = eventful(RARELY, learning_rate=3e-4)
    with caplog.at_level(logging.WARNING), pytest.raises(KilledError):
        train("teacher", other, checkpoints, stopped_at(1, KilledError))
    assert "of another training (other settings); removed" in caplog.text
    assert not checkpoints.read()


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\x08" + bytes(15)])
def test_what_is_no_checkpoint_is_not_continued(content: bytes, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept")
    folder.path.mkdir()
    (folder.path / "state.safetensors").write_bytes(content)
    assert Keeper(folder, {"recipe": "teacher"}, 1).last() is None
    assert bool(folder.path.exists()) == (content == b"")
    if content:
        with pytest.raises(ValueError, match="no state of a training"):
            unpack(content)


def test_a_changed_bit_is_not_continued_from(tmp_path: Path) -> None:
    """In a tensor, where the file's own form says nothing of it, and in the notes."""
    folder = CheckpointFolder(tmp_path / "kept")
    folder.save({"recipe": "a"}, {"x": torch.ones(8)}, {"epoch": 3})
    whole = folder.read()
    unpack(whole)
    for place in (len(whole) - 1, whole.index(b"epoch") + 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="its sha256 differs"):
            unpack(bytes(damaged))


def test_a_state_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails in between leaves the state before, and nothing else."""
    folder = CheckpointFolder(tmp_path / "kept")
    folder.save({"recipe": "a"}, {"x": torch.ones(2)}, [1.5])
    before = folder.read()

    def fails(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        folder.save({"recipe": "a"}, {"x": torch.zeros(2)}, [2.5])
    assert folder.read() == before
    assert [path.name for path in folder.path.iterdir()] == ["state.safetensors"]
    identity, tensors, notes = unpack(before)
    assert (identity, notes) == ({"recipe": "a"}, [1.5])
    assert torch.equal(tensors["x"], torch.ones(2))
    folder.remove()
    assert not folder.path.exists()
    assert folder.read() == b""


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    keeper = Keeper()
    with pytest.raises(KeyboardInterrupt), keeper.saved_when_stopped(lambda: ({}, None)):
        raise KeyboardInterrupt
    keeper.save_if_due(lambda: ({}, None))
    assert keeper.last() is None


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_moments_lie_in_memory_as_their_parameters(optimizer: str) -> None:
    """Fused steps walk both in the order of memory: other strides would mix up the numbers."""
    torch.manual_seed(0)
    settings = TrainingSettings(optimizer=optimizer)
    layers = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [make_optimizer([layer], settings, 10)[0] for layer in layers]
    pictures = torch.rand(2, 3, 5, 5)

    def step(place: int) -> None:
        optimizers[place].zero_grad()
        layers[place](pictures).square().sum().backward()
        optimizers[place].step()

    step(0)
    kept = {
        name: value.clone().contiguous() for name, value in pack_optimizer(optimizers[0]).items()
    }
    layers[1].load_state_dict(layers[0].state_dict())
    restore_optimizer(optimizers[1], kept)
    assert any(not value.is_contiguous() for value in pack_optimizer(optimizers[1]).values())
    for place in range(2):
        step(place)
    assert torch.equal(layers[0].weight, layers[1].weight)
