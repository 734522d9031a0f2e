"""The memory that a process may have, from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from recjob.monitoring.limits import memory_limit_bytes

MACHINE = psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/pod/app\n", {"pod/app/memory.max": "max", "pod/memory.max": "4096"}, 4096),
        ("0::/pod/app\n", {"pod/app/memory.max": "2048", "memory.max": "4096"}, 2048),
        ("0::/\n", {"memory.max": "8192"}, 8192),
        ("0::/elsewhere\n", {"memory.max": "8192"}, 8192),  # a container sees only its own root
        ("4:memory:/job\n", {"memory/job/memory.limit_in_bytes": "1024"}, 1024),
        ("4:cpu,memory:/job\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, MACHINE),
        ("0::/pod\n", {"pod/memory.max": "max"}, MACHINE),
        ("0::/pod\n", {}, MACHINE),
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, own: str, files: dict[str, str], limit: int
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert memory_limit_bytes(tmp_path / "own", tmp_path / "cgroups") == limit


def test_this_process_has_some() -> None:
    assert 0 < memory_limit_bytes() <= MACHINE


def test_not_linux(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "none", tmp_path) == MACHINE
