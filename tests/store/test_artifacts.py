"""Artifacts are whole or not there, and loaded only unchanged."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recjob.errors import DataError, NotFoundError, UserError
from recjob.store.artifacts import ArtifactFolder, new_model_id

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path / "artifacts")


def write(artifacts: ArtifactFolder, model_id: str = "student-1") -> str:
    with artifacts.write_model(model_id) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "parts").mkdir()
        (folder / "parts" / "settings.json").write_text("{}")
    return artifacts.model_sha256(model_id)


def test_written_then_loaded(artifacts: ArtifactFolder) -> None:
    folder = artifacts.model("student-1", write(artifacts))
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert write(artifacts, "student-2") == artifacts.model_sha256("student-1")  # same content


def test_nothing_is_left_of_a_failure(artifacts: ArtifactFolder) -> None:
    def fail() -> None:
        with artifacts.write_model("teacher") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {path.name for path in artifacts.root.rglob("*") if path.is_file()} <= {"lock"}
    with pytest.raises(NotFoundError):
        artifacts.model_sha256("teacher")


def test_a_model_is_never_overwritten(artifacts: ArtifactFolder) -> None:
    write(artifacts)
    with pytest.raises(DataError, match="already"):
        write(artifacts)


@pytest.mark.parametrize("name", ["model.safetensors", "parts/settings.json", "manifest.json"])
def test_changed_files_are_refused(artifacts: ArtifactFolder, name: str) -> None:
    sha256 = write(artifacts)
    path = artifacts.root / "models" / "student-1" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match=name):
        artifacts.model("student-1", sha256)


def test_a_missing_file_is_refused(artifacts: ArtifactFolder) -> None:
    sha256 = write(artifacts)
    (artifacts.root / "models" / "student-1" / "model.safetensors").unlink()
    with pytest.raises(DataError):
        artifacts.model("student-1", sha256)


def test_files_that_come_later(artifacts: ArtifactFolder) -> None:
    sha256 = write(artifacts)
    for content in (b"plan", b"newer plan"):
        with artifacts.add_file("student-1", "engines/sm89.plan") as path:
            path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        assert artifacts.file("student-1", "engines/sm89.plan", digest).read_bytes() == content

    def fail() -> None:
        with artifacts.add_file("student-1", "engines/sm89.plan") as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert artifacts.file("student-1", "engines/sm89.plan", digest).read_bytes() == b"newer plan"
    with pytest.raises(DataError, match=r"sm89\.plan"):
        artifacts.file("student-1", "engines/sm89.plan", "0" * 64)
    artifacts.model("student-1", sha256)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../x", "/etc", "a/../b", ".hidden", "a\0", "x" * 200]
)
def test_names_stay_inside(artifacts: ArtifactFolder, name: str) -> None:
    write(artifacts)
    with pytest.raises(UserError), artifacts.write_model(name):
        pass
    with pytest.raises(UserError):
        artifacts.model(name, "0" * 64)
    with pytest.raises(UserError), artifacts.add_file("student-1", name):
        pass
    with pytest.raises(UserError):
        artifacts.remove_model(name)


def test_model_ids_are_safe_and_distinct(artifacts: ArtifactFolder) -> None:
    ids = {new_model_id("student") for _ in range(50)}
    assert len(ids) == 50
    for model_id in ids:
        artifacts.remove_model(model_id)


WRITER = """
import sys, time
from pathlib import Path
from recjob.store.artifacts import ArtifactFolder
with ArtifactFolder(Path(sys.argv[1])).write_model(sys.argv[2]) as folder:
    (folder / "model.safetensors").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(60)
"""


@contextmanager
def another_writer(artifacts: ArtifactFolder, model_id: str) -> Iterator[Path]:
    """The unfinished folder of another process, which is killed at the end."""
    command = [sys.executable, "-c", WRITER, str(artifacts.root), model_id]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_only_what_the_dead_left_is_removed(artifacts: ArtifactFolder) -> None:
    with another_writer(artifacts, "killed") as killed:
        pass
    with another_writer(artifacts, "alive") as alive:
        artifacts.remove_unfinished()
        assert (alive / "model.safetensors").exists()
        write(artifacts)  # beside the living and the dead
    assert killed.exists()
    with artifacts.add_file("student-1", "engines/sm89.plan") as path:
        path.write_bytes(b"plan")
        artifacts.remove_unfinished()  # at the start of a job in another thread
        assert path.read_bytes() == b"plan"
    artifacts.remove_unfinished()
    assert not killed.exists()
    assert not alive.exists()
    assert (artifacts.root / "models" / "student-1" / "engines" / "sm89.plan").exists()
    with pytest.raises(NotFoundError):
        artifacts.model_sha256("killed")


def test_nothing_to_remove_makes_nothing(artifacts: ArtifactFolder) -> None:
    artifacts.remove_unfinished()
    assert not artifacts.root.exists()
