"""Artifacts are whole or not there, and loaded only unchanged."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from recjob.errors import DataError, NotFoundError, UserError
from recjob.store.artifacts import UNFINISHED_SECONDS, ArtifactFolder, new_model_id


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
    assert not [path for path in artifacts.root.rglob("*") if path.is_file()]
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


def test_only_old_leftovers_are_removed(artifacts: ArtifactFolder) -> None:
    context = artifacts.write_model("killed")
    folder = context.__enter__()
    (folder / "model.safetensors").write_bytes(b"half")
    artifacts.remove_unfinished()
    assert folder.exists()
    old = time.time() - UNFINISHED_SECONDS - 1
    os.utime(folder, (old, old))
    artifacts.remove_unfinished()
    assert not folder.exists()
