"""What the system refuses while tensors are written is an error of the system."""

from __future__ import annotations

import errno
import resource
import signal
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recjob.inference.tensor_files import writing_tensors


def test_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with writing_tensors(path):
        save_file({"a": torch.ones(2)}, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert load_file(path)["a"].tolist() == [1, 1]


def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the same place, another number."""
    path = tmp_path / "a.safetensors"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError) as caught, writing_tensors(path):
            save_file({"a": torch.ones(10_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.safetensors"
    with pytest.raises(FileNotFoundError), writing_tensors(path):
        save_file({"a": torch.ones(2)}, path)


def test_what_is_not_the_systems_fault_stays(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="our own"), writing_tensors(tmp_path / "a"):
        raise SafetensorError("our own")
