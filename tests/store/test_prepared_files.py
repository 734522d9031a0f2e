"""Other content for a model's files: prepared, registered at one stroke, then settled."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recjob.errors import DataError
from recjob.store.artifacts import ArtifactFolder
from recjob.store.storage import open_storage

MODEL = "student-1"
NAMES = ("users.json", "users.safetensors")
OLD = {"users.json": "anna ben", "users.safetensors": "1 2", "model.json": "{}"}
NEW = {"users.json": "ben", "users.safetensors": "2"}


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a storage that two machines share."""
    found = f"file://{folder}/bucket"
    if kind == "memory":
        found = f"memory://{secrets.token_hex(4)}/shop"
    yield found
    open_storage(found).remove("")


@pytest.fixture(params=["file", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with storage(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=["alone", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a shared storage; "": there is none."""
    if request.param == "alone":
        yield ""
        return
    with storage(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def artifacts(url: str, tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path / "a", url)


def write(artifacts: ArtifactFolder) -> str:
    with artifacts.write_model(MODEL) as folder:
        for name, content in OLD.items():
            (folder / name).write_text(content)
    return artifacts.model_sha256(MODEL)


def prepare(artifacts: ArtifactFolder, sha256: str) -> str:
    def replace(source: Path, target: Path) -> None:
        for name, content in NEW.items():
            assert (source / name).read_text() == OLD[name]
            (target / name).write_text(content)

    return artifacts.prepare_files(MODEL, sha256, NAMES, replace)


def content(artifacts: ArtifactFolder, sha256: str) -> dict[str, str]:
    """What a job would load."""
    folder = artifacts.model(MODEL, sha256)
    return {name: (folder / name).read_text() for name in OLD}


def left(artifacts: ArtifactFolder, url: str) -> set[str]:
    """Names of all files of models, here and shared."""
    here = {path.name for path in (artifacts.root / "models").rglob("*") if path.is_file()}
    return here | ({name.split("/")[-1] for name in open_storage(url).names()} if url else set())


def test_prepared_is_not_yet_in_use(artifacts: ArtifactFolder, url: str) -> None:
    old = write(artifacts)
    assert prepare(artifacts, old) != old
    assert content(artifacts, old) == OLD
    # Nobody registered it: it goes.
    assert artifacts.settle(MODEL, old, NAMES)
    assert content(artifacts, old) == OLD
    assert left(artifacts, url) == {*OLD, "manifest.json"}
    assert not artifacts.settle(MODEL, old, NAMES)


@pytest.mark.parametrize("settled", [True, False])
def test_once_registered_it_is_in_use_here_and_elsewhere(
    artifacts: ArtifactFolder, url: str, tmp_path: Path, settled: bool
) -> None:
    """Also where the one who registered it was killed before it could settle."""
    old = write(artifacts)
    other = ArtifactFolder(tmp_path / "b", url)
    if url:
        assert content(other, old) == OLD  # an older copy on the other machine
    new = prepare(artifacts, old)
    if settled:
        assert artifacts.settle(MODEL, new, NAMES)
        assert not artifacts.settle(MODEL, new, NAMES)
    for machine in [artifacts, other] if url else [artifacts]:
        assert content(machine, new) == OLD | NEW
        if settled:
            with pytest.raises(DataError):
                machine.model(MODEL, old)
    artifacts.settle(MODEL, new, NAMES)
    assert left(artifacts, url) == {*OLD, "manifest.json"}
    if url:
        assert content(ArtifactFolder(tmp_path / "c", url), new) == OLD | NEW


def test_an_outdated_copy_of_another_machine_is_brought_up_to_date(
    shared: str, tmp_path: Path
) -> None:
    artifacts, other = (ArtifactFolder(tmp_path / name, shared) for name in "ab")
    old = write(artifacts)
    other.model(MODEL, old)
    new = prepare(artifacts, old)
    artifacts.settle(MODEL, new, NAMES)
    assert (other.root / "models" / MODEL / "users.json").read_text() == OLD["users.json"]
    assert other.settle(MODEL, new, NAMES)
    assert (other.root / "models" / MODEL / "users.json").read_text() == NEW["users.json"]
    assert not other.settle(MODEL, new, NAMES)


def test_damaged_files_are_not_built_upon(artifacts: ArtifactFolder, url: str) -> None:
    old = write(artifacts)
    if url:
        open_storage(url).write(f"models/{MODEL}/users.json", b"damaged")
    (artifacts.root / "models" / MODEL / "users.json").write_text("damaged")
    with pytest.raises(DataError, match=r"users\.json"):
        prepare(artifacts, old)
    assert left(artifacts, url) == {*OLD, "manifest.json"}
