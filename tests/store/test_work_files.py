"""Shard results are whole, sound, or not there; in a folder and at URLs alike."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from recjob.errors import UserError
from recjob.store.work_files import WorkFolder

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("local", "file", "memory")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Root and URL of a work folder."""
    if request.param == "memory":
        url = f"memory://{secrets.token_hex(4)}/shop"
        yield tmp_path, url
        filesystem, path = url_to_fs(url)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
    else:
        yield tmp_path, f"file://{tmp_path}/shared" if request.param == "file" else ""


def stored(place: tuple[Path, str], name: str) -> tuple[object, str]:
    """fsspec's file system and the path of a file of the work "night-1"."""
    root, url = place
    filesystem, path = url_to_fs(f"{url or f'file://{root}'}/work/night-1/{name}")
    return filesystem, path


def test_written_then_read(place: tuple[Path, str]) -> None:
    work = WorkFolder(*place, "night-1")
    assert work.names() == []
    assert work.read("scores-0") is None
    contents = {"scores-0": b"", "scores-1": os.urandom(100_000), "users/3": b"x"}
    for name, data in contents.items():
        work.write(name, data)
    work.write("users/3", b"newer")
    other_machine = WorkFolder(*place, "night-1")
    assert other_machine.names() == ["scores-0", "scores-1", "users/3"]
    assert [other_machine.read(name) for name in contents] == [
        b"",
        contents["scores-1"],
        b"newer",
    ]


def test_works_do_not_meet(place: tuple[Path, str]) -> None:
    first, second = WorkFolder(*place, "night-1"), WorkFolder(*place, "night-10")
    first.write("a", b"1")
    second.write("a", b"2")
    first.remove()
    first.remove()
    assert first.names() == []
    assert first.read("a") is None
    assert second.read("a") == b"2"


@pytest.mark.parametrize("damage", ["torn", "short", "empty", "changed", "longer"])
def test_a_damaged_file_counts_as_never_written(place: tuple[Path, str], damage: str) -> None:
    work = WorkFolder(*place, "night-1")
    work.write("scores-0", b"result" * 100)
    filesystem, path = stored(place, "scores-0")
    whole: bytes = filesystem.cat_file(path)  # type: ignore[attr-defined]
    damaged = {
        "torn": whole[:-1],
        "short": whole[:7],
        "empty": b"",
        "changed": whole[:50] + bytes([whole[50] ^ 1]) + whole[51:],
        "longer": whole + b"x",
    }[damage]
    filesystem.pipe_file(path, damaged)  # type: ignore[attr-defined]
    assert work.read("scores-0") is None
    assert work.names() == []
    work.write("scores-0", b"again")
    assert work.read("scores-0") == b"again"


@pytest.mark.parametrize("name", ["..", "", "../x", "/etc/x", "a/../b", ".x", "a\0", "x" * 200])
def test_names_stay_inside(place: tuple[Path, str], name: str) -> None:
    with pytest.raises(UserError):
        WorkFolder(*place, name)
    work = WorkFolder(*place, "night-1")
    with pytest.raises(UserError):
        work.write(name, b"")
    with pytest.raises(UserError):
        work.read(name)


def test_a_reader_never_meets_half_a_file(place: tuple[Path, str]) -> None:
    """A torn file would read as None, since its sum would be wrong."""
    work = WorkFolder(*place, "night-1")
    versions = [bytes([number]) * 300_000 for number in range(8)]
    work.write("scores-0", versions[0])
    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(work.write, "scores-0", version) for version in versions]
        while not all(writer.done() for writer in writers):
            assert work.read("scores-0") in versions
            assert work.names() == ["scores-0"]
    for writer in writers:
        writer.result()


KILLED = """
import os, sys
from pathlib import Path
from recjob.store import storage
from recjob.store.work_files import WorkFolder
storage.sync_file = lambda path: os._exit(1)
WorkFolder(Path(sys.argv[1]), "", "night-1").write("scores-0", b"x" * 1000)
"""


def test_a_killed_writer_leaves_no_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 1
    work = WorkFolder(tmp_path, "", "night-1")
    assert any(path.is_file() for path in tmp_path.rglob("*"))  # it had begun
    assert work.names() == []
    assert work.read("scores-0") is None
    work.remove()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_full_disk_passes_through_and_leaves_nothing(tmp_path: Path) -> None:
    """A tiny real file system where one may be mounted, else the limit of a file's length."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            work = WorkFolder(disk, "", "night-1")
            work.write("small", b"x" * 1000)
            with pytest.raises(OSError) as told:
                work.write("large", b"x" * 200_000)
            assert told.value.errno == errno.ENOSPC
            assert work.names() == ["small"]
            assert work.read("small") == b"x" * 1000
            assert len([path for path in disk.rglob("*") if path.is_file()]) == 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    work = WorkFolder(tmp_path, "", "night-1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, before[1]))
    try:
        with pytest.raises(OSError) as told:
            work.write("large", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.value.errno == errno.EFBIG
    assert work.names() == []
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
