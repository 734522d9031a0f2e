"""Artifacts are whole or not there, and loaded only unchanged."""

from __future__ import annotations

import hashlib
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from recjob.errors import DataError, NotFoundError, SettingsError, TemporaryError, UserError
from recjob.store.artifacts import ArtifactFolder, new_model_id
from recjob.store.storage import open_storage

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
        assert (
            artifacts.file("student-1", "engines/sm89.plan", digest, "compile").read_bytes()
            == content
        )

    def fail() -> None:
        with artifacts.add_file("student-1", "engines/sm89.plan") as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (
        artifacts.file("student-1", "engines/sm89.plan", digest, "compile").read_bytes()
        == b"newer plan"
    )
    with pytest.raises(DataError, match=r"sm89\.plan"):
        artifacts.file("student-1", "engines/sm89.plan", "0" * 64, "compile")
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


@dataclass(frozen=True)
class Shared:
    """A storage at `url`, and two machines that share it, each with a folder of its own."""

    url: str
    first: ArtifactFolder
    second: ArtifactFolder

    def names(self) -> set[str]:
        return set(open_storage(self.url).names())

    def damage(self, name: str, data: bytes) -> None:
        open_storage(self.url).write(name, data)


@pytest.fixture(params=["file", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    in_memory = f"memory://{secrets.token_hex(4)}/shop"
    url = in_memory if request.param == "memory" else f"file://{tmp_path}/bucket/"
    yield Shared(url, ArtifactFolder(tmp_path / "a", url), ArtifactFolder(tmp_path / "b", url))
    open_storage(url).remove("")


FILES = {"manifest.json", "model.safetensors", "parts/settings.json"}


def test_another_machine_finds_models_and_files(shared: Shared) -> None:
    sha256 = write(shared.first)
    assert shared.names() == {f"models/student-1/{name}" for name in FILES}
    for _ in range(2):  # from the storage, then from the folder
        folder = shared.second.model("student-1", sha256)
        assert folder.is_relative_to(shared.second.root)
        assert (folder / "model.safetensors").read_bytes() == b"weights"
        assert (folder / "parts" / "settings.json").read_text() == "{}"
    for content in (b"plan", b"newer plan"):
        with shared.first.add_file("student-1", "engines/sm89.plan") as path:
            path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        found = shared.second.file("student-1", "engines/sm89.plan", digest, "compile")
        assert found.read_bytes() == content
    index = shared.first.root / "indexes" / "student-1" / "outfits.faiss"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"index")
    shared.first.share(index)
    digest = hashlib.sha256(b"index").hexdigest()
    name = "indexes/student-1/outfits.faiss"
    assert shared.second.fetch(name, digest).read_bytes() == b"index"
    with pytest.raises(NotFoundError, match="nor at "):
        shared.second.fetch("indexes/student-2/outfits.faiss", digest)
    left = {path.name for path in (shared.second.root / ".unfinished").iterdir()}
    assert left == {"lock"}


def test_the_folder_alone_is_enough_once_it_is_filled(shared: Shared) -> None:
    sha256 = write(shared.first)
    shared.second.model("student-1", sha256)
    open_storage(shared.url).remove("")
    shared.second.model("student-1", sha256)
    with pytest.raises(NotFoundError):
        ArtifactFolder(shared.second.root.parent / "c", shared.url).model("student-1", sha256)


@pytest.mark.parametrize("name", sorted(FILES))
def test_damage_here_is_mended_from_there(shared: Shared, name: str) -> None:
    sha256 = write(shared.first)
    path = shared.first.model("student-1", sha256) / name
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    shared.first.model("student-1", sha256)
    assert path.read_bytes() == whole
    path.unlink()
    shared.first.model("student-1", sha256)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", sorted(FILES))
def test_damage_there_is_refused_and_never_kept(shared: Shared, name: str) -> None:
    sha256 = write(shared.first)
    shared.damage(f"models/student-1/{name}", b"damaged")
    with pytest.raises(DataError, match=name):
        shared.second.model("student-1", sha256)
    assert not (shared.second.root / "models" / "student-1" / name).exists()
    shared.first.model("student-1", sha256)


def test_a_model_without_its_manifest_is_not_there(shared: Shared) -> None:
    sha256 = write(shared.first)
    open_storage(shared.url).remove("models/student-1/manifest.json")
    with pytest.raises(NotFoundError):
        shared.second.model("student-1", sha256)
    write(shared.second)  # what a killed writer left is in nobody's way
    with pytest.raises(DataError, match="already"):
        write(ArtifactFolder(shared.second.root.parent / "c", shared.url))


def test_removed_here_and_there(shared: Shared) -> None:
    sha256 = write(shared.first)
    write(shared.first, "student-12")
    with shared.first.add_file("student-1", "engines/sm89.plan") as path:
        path.write_bytes(b"plan")
    for _ in range(2):
        shared.first.remove_model("student-1")
        assert shared.names() == {f"models/student-12/{name}" for name in FILES}
    with pytest.raises(NotFoundError):
        shared.first.model("student-1", sha256)


def test_a_failure_shares_nothing(shared: Shared) -> None:
    def fail() -> None:
        with shared.first.write_model("teacher") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert shared.names() == set()


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_an_unreachable_storage_is_told_without_secrets(tmp_path: Path) -> None:
    with deaf_port() as port:
        url = f"ftp://shop:hunter2@127.0.0.1:{port}/bucket?token=abc"
        artifacts = ArtifactFolder(tmp_path, url)
        attempts = (
            lambda: write(artifacts),
            lambda: artifacts.fetch("models/x/manifest.json", "0" * 64),
            lambda: artifacts.remove_model("x"),
        )
        for attempt in attempts:
            with pytest.raises(TemporaryError, match="refused") as told:
                attempt()
            text = str(told.value)
            assert "127.0.0.1" in text
            assert not any(secret in text for secret in ("hunter2", "shop:", "abc", "\n"))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("url", ["nowhere://key:hunter2@bucket", "nowhere::s3://bucket/x"])
def test_a_url_that_nothing_opens_is_told_at_once(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="artifacts_url") as told:
        ArtifactFolder(tmp_path, url)
    assert "hunter2" not in str(told.value)
