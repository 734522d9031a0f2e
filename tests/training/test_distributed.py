"""Processes that train together do what one does with their batches put together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recjob.model import backbone
from recjob.training.distributed import Ranks, joined, started_together
from tests.training.colours import tiny_settings
from tests.training.tiny_runs import SHARED_ROLES, packed, recommender, shared_settings

PROCESSES = 2


def test_shares_are_all_rows_once_and_nearly_equal() -> None:
    for count in (1, 2, 3, 7):
        for n in (0, 1, 5, 7, 64):
            shares = [range(n)[Ranks(rank, count).own(n)] for rank in range(count)]
            assert [row for share in shares for row in share] == list(range(n))
            sizes = [len(share) for share in shares]
            assert max(sizes) - min(sizes) <= 1


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not started_together()
    with joined(tiny_settings().compute) as ranks:
        assert ranks == Ranks()
        rows, step = torch.rand(3, 2), torch.nn.Linear(2, 2)
        assert ranks.gather(rows, 3) is rows
        assert ranks.shared(step) is step
        assert ranks.broadcast(b"abc") == b"abc"
        with ranks.first_then_others():
            pass


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.system
def test_two_processes_are_one_with_the_double_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters after an epoch, losses and notes: rounding is all that differs."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.tiny_runs", "shared", str(tmp_path)],
            env={
                **os.environ,
                **address,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(PROCESSES),
            },
        )
        for rank in range(PROCESSES)
    ]
    monkeypatch.setitem(backbone.FULLY_CONNECTED_WIDTH, "s", 32)
    expected = {
        name: packed(recommender(name.split("-")[0], shared_settings(name, 8 * PROCESSES)))
        for name in SHARED_ROLES
    }
    assert [process.wait(timeout=300) for process in processes] == [0] * PROCESSES
    for name in SHARED_ROLES:
        first, second = (load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2))
        for key, value in expected[name].items():
            if key in ("losses", "notes"):  # of the process's own rows
                continue
            torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5)
            assert torch.equal(first[key], second[key])
        mean = (first["losses"] + second["losses"]) / PROCESSES
        torch.testing.assert_close(mean, expected[name]["losses"], rtol=0, atol=1e-5)
