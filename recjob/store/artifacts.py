"""The artifact folder: what models are made of, whole or not there, and unchanged when loaded.

`models/<model_id>/` holds the files of a model and `manifest.json`, the sha256 of each; the
sha256 of the manifest stands in the registry. Files that come later (engines) are not in the
manifest; their own sha256 stands in the table `engine`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from recjob.errors import DataError, NotFoundError, UserError

Role = Literal["autoencoder", "teacher", "student"]
"""What a model is for."""

MANIFEST = "manifest.json"
MAX_NAME = 128
"""Longest name of a file or folder; every common file system takes 255 bytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNFINISHED = ".unfinished"
_LOCK = "lock"


def new_model_id(role: Role) -> str:
    """A fresh id for a model of this role, which says when it was made."""
    return f"{role}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactFolder:
    """The artifacts under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def write_model(self, model_id: str) -> Iterator[Path]:
        """A folder to write a model's files into; it gets its name when the block ends well.

        What an exception or a crash leaves unfinished is removed.
        """
        final = self._model(model_id)
        if final.exists():
            raise DataError(f"{final}: is there already; a model is never overwritten")
        with self._unfinished(final) as folder:
            folder.mkdir()
            yield folder
            _write_manifest(folder)
            sync_files(folder)
            folder.rename(final)
            _sync_folder(final.parent)

    def model_sha256(self, model_id: str) -> str:
        """sha256 (hex) of the model's manifest, and so of all that it lists."""
        manifest = self._model(model_id) / MANIFEST
        if not manifest.is_file():
            raise NotFoundError(f"{manifest.parent}: there is no such model")
        return file_sha256(manifest)

    def model(self, model_id: str, sha256: str) -> Path:
        """The model's folder, after every file in it proved to be the one registered.

        Raises NotFoundError where it is missing, DataError where it was changed.
        """
        folder = self._model(model_id)
        if self.model_sha256(model_id) != sha256:
            raise _changed(folder / MANIFEST)
        for name, expected in json.loads((folder / MANIFEST).read_text()).items():
            path = folder / _safe(name)
            if not path.is_file() or file_sha256(path) != expected:
                raise _changed(path)
        return folder

    @contextmanager
    def add_file(self, model_id: str, name: str) -> Iterator[Path]:
        """A path to write a further file `name` ("engines/sm89.plan") of a finished model to.

        It gets its name when the block ends well, in place of an older one; `file_sha256` of it
        belongs into the registry.
        """
        final = self._model(model_id) / _safe(name)
        if not final.is_relative_to(self._model(model_id)):
            raise _unsafe(name)
        with self._unfinished(final) as path:
            yield path
            _sync_file(path)
            path.rename(final)
            _sync_folder(final.parent)

    def file(self, model_id: str, name: str, sha256: str) -> Path:
        """A model's further file, after it proved to be the one registered; errors as `model`."""
        path = self._model(model_id) / _safe(name)
        if not path.is_file():
            raise NotFoundError(f"{path}: there is no such file")
        if file_sha256(path) != sha256:
            raise _changed(path)
        return path

    def remove_model(self, model_id: str) -> None:
        """Remove a model's files; nothing happens where there are none."""
        shutil.rmtree(self._model(model_id), ignore_errors=True)

    def remove_unfinished(self) -> None:
        """Remove what killed jobs left, unless something is being written at this moment.

        Then the next call does it.
        """
        folder = self.root / _UNFINISHED
        if not any(path.name != _LOCK for path in folder.glob("*")):
            return
        with (folder / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for path in folder.glob("*"):
                if path.name != _LOCK:
                    _remove(path)

    def _model(self, model_id: str) -> Path:
        name = _safe(model_id)
        if len(name.parts) != 1:
            raise _unsafe(model_id)
        return self.root / "models" / name

    @contextmanager
    def _unfinished(self, final: Path) -> Iterator[Path]:
        """A place for what will be `final`, on its file system, so that renaming is one step.

        What is still there at the end is removed. Writers share a lock, which the kernel takes
        back from one that dies: where nobody holds it, whatever lies here belongs to the dead.
        """
        final.parent.mkdir(parents=True, exist_ok=True)
        folder = self.root / _UNFINISHED
        folder.mkdir(exist_ok=True)
        path = folder / f"{final.name}-{secrets.token_hex(4)}"
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                yield path
            finally:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _safe(name: str) -> Path:
    """`name` as a relative path that stays where it is put."""
    parts = name.split("/")
    if any(len(part) > MAX_NAME or not _NAME.fullmatch(part) for part in parts):
        raise _unsafe(name)
    return Path(*parts)


def _unsafe(name: str) -> UserError:
    return UserError(
        f"{name!r} cannot name an artifact; letters, digits, '.', '_' and '-' can, in parts joined "
        "by '/' that begin with a letter or digit"
    )


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path}: is not the file that was registered (sha256 differs); restore it, or train again"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_manifest(folder: Path) -> None:
    sums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in _files(folder)}
    if not sums:
        raise ValueError("a model without files")
    for name in sums:
        _safe(name)
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n")


def sync_files(folder: Path) -> None:
    """Bring a folder and all in it to the disk."""
    for path in _files(folder):
        _sync_file(path)
    for path in (*folder.rglob("*/"), folder):
        if path.is_dir():
            _sync_folder(path)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
