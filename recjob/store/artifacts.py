"""The artifact folder: what models are made of, whole or not there, and unchanged when loaded.

`models/<model_id>/` holds the files of a model and `manifest.json`, the sha256 of each; the
sha256 of the manifest stands in the registry. Files that come later (engines) are not in the
manifest; their own sha256 stands in the table `engine`.

With a URL the folder is a verified cache in front of a storage that other machines share: what is
written goes there too, what is missing here or was damaged comes from there. What is whole here is
used without asking there, so a night needs the storage only for what is new.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from recjob.catalog.disk import sync_file, sync_folder
from recjob.catalog.hashing import file_sha256
from recjob.errors import DataError, NotFoundError
from recjob.store.storage import (
    masked,
    open_storage,
    remove_path,
    safe_name,
    unsafe,
)

Role = Literal["autoencoder", "teacher", "student"]
"""What a model is for."""

MANIFEST = "manifest.json"
MODELS = "models"
"""Folder of the models, each under its id."""
TRAIN_AGAIN: Final = "train again"
"""What makes a model's own files anew."""
PREPARED: Final = ".prepared"
"""Follows the name of a file that is to take another's place (`prepare_files`)."""
_UNFINISHED = ".unfinished"
_LOCK = "lock"


def new_model_id(role: Role) -> str:
    """A fresh id for a model of this role, which says when it was made."""
    return f"{role}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class ArtifactFolder:
    """The artifacts under `root`, shared with other machines at `url` (of fsspec) if there is one.

    Its constructor raises SettingsError for a URL that fsspec cannot open. With a URL, every
    method that needs the shared storage raises TemporaryError where it cannot be reached.
    """

    def __init__(self, root: Path, url: str = "") -> None:
        self.root = root
        self._shared = open_storage(url) if url else None
        self._shared_name = masked(url).rstrip("/")

    @contextmanager
    def write_model(self, model_id: str) -> Iterator[Path]:
        """A folder to write a model's files into; it gets its name when the block ends well.

        What an exception or a crash leaves unfinished is removed. The shared storage gets the
        manifest last, and has no model without one.
        """
        final = self._model(model_id)
        name = f"{MODELS}/{model_id}"
        if final.exists():
            raise DataError(f"{final}: is there already; a model is never overwritten")
        if self._shared is not None and self._shared.read(f"{name}/{MANIFEST}") is not None:
            raise DataError(
                f"{self._shared_name}/{name}: is there already; a model is never overwritten"
            )
        with self._unfinished(final) as folder:
            folder.mkdir()
            yield folder
            names = [*_write_manifest(folder), MANIFEST]
            sync_files(folder)
            if self._shared is not None:
                for file in names:
                    self._shared.upload(folder / file, f"{name}/{file}")
            final.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(final)
            sync_folder(final.parent)

    def model_sha256(self, model_id: str) -> str:
        """sha256 (hex) of the manifest of a model in this folder, and so of all that it lists."""
        manifest = self._model(model_id) / MANIFEST
        if not manifest.is_file():
            raise NotFoundError(f"{manifest.parent}: there is no such model")
        return file_sha256(manifest)

    def model(self, model_id: str, sha256: str) -> Path:
        """The model's folder, after every file in it proved to be the one registered.

        Raises NotFoundError where it is missing, DataError where it was changed.
        """
        folder = self._model(model_id)
        name = f"{MODELS}/{model_id}"
        manifest = self.fetch(f"{name}/{MANIFEST}", sha256)
        for file, expected in _read_manifest(manifest).items():
            try:
                self.fetch(f"{name}/{file}", expected)
            except NotFoundError:
                raise _changed(folder / file) from None
        return folder

    @contextmanager
    def add_file(self, model_id: str, name: str) -> Iterator[Path]:
        """A path to write a further file `name` ("engines/sm89.plan") of a finished model to.

        It gets its name when the block ends well, in place of an older one; `file_sha256` of it
        belongs into the registry.
        """
        final = self._model(model_id) / safe_name(name)
        with self._unfinished(final) as path:
            yield path
            _finish(path, final)
        self.share(final)

    def file(self, model_id: str, name: str, sha256: str, remedy: str) -> Path:
        """A model's further file, after it proved to be the one registered; errors as `model`.

        `remedy`: what makes it anew, for the message about one that was changed.
        """
        self._model(model_id)
        return self.fetch(f"{MODELS}/{model_id}/{name}", sha256, remedy)

    def share(self, path: Path) -> None:
        """Copy a finished file under `root` to the shared storage; without a URL nothing happens.

        For what is written in place (an index); `add_file` and `write_model` share by themselves.
        """
        name = path.relative_to(self.root).as_posix()
        safe_name(name)
        if self._shared is not None:
            self._shared.upload(path, name)

    def fetch(self, name: str, sha256: str, remedy: str = TRAIN_AGAIN) -> Path:
        """The file `name` under `root`, after it proved to be the one registered.

        One that is missing or differs comes from the shared storage, if there is one. Errors as
        `model`, `remedy` as `file`.
        """
        path = self.root / safe_name(name)
        prepared = _prepared(path)
        is_here = path.is_file()
        if is_here and file_sha256(path) == sha256:
            return path
        if prepared.is_file() and file_sha256(prepared) == sha256:
            _finish(prepared, path)
            return path
        if self._shared is not None:
            others = False
            for source in (name, f"{name}{PREPARED}"):
                with self._unfinished(path) as temporary:
                    if self._shared.download(source, temporary):
                        if file_sha256(temporary) == sha256:
                            _finish(temporary, path)
                            return path
                        others = True
            if others:
                raise _changed(f"{self._shared_name}/{name}", remedy)
        if is_here:
            raise _changed(path, remedy)
        also = f", nor at {self._shared_name}" if self._shared is not None else ""
        raise NotFoundError(f"{path}: there is no such file{also}")

    def prepare_files(
        self,
        model_id: str,
        sha256: str,
        names: Sequence[str],
        write: Callable[[Path, Path], None],
    ) -> str:
        """Prepare other content for the files `names` of a model; the sha256 of its manifest then.

        `write(model's folder, folder for the new files)`, after what it reads proved to be what is
        registered with `sha256`; errors as `model`. Nothing that is in use changes. Whoever
        registers the sha256 that this returns makes the files the model's, at one stroke: from then
        on they are found where they were prepared, and `settle` gives them their names.
        """
        name = f"{MODELS}/{model_id}"
        folder = self._model(model_id)
        sums = _read_manifest(self.fetch(f"{name}/{MANIFEST}", sha256))
        for file in names:
            self.fetch(f"{name}/{file}", sums[file])
        with self._unfinished(folder) as scratch:
            scratch.mkdir()
            write(folder, scratch)
            sums |= {path.name: file_sha256(path) for path in _files(scratch)}
            _write_sums(scratch, sums)
            manifest = file_sha256(scratch / MANIFEST)
            for path in _files(scratch):
                prepared = _prepared(folder / path.name)
                _finish(path, prepared)
                if self._shared is not None:
                    self._shared.upload(prepared, f"{name}/{prepared.name}")
        return manifest

    def settle(self, model_id: str, sha256: str, names: Sequence[str]) -> bool:
        """Bring the files `names` of a model to what is registered, here and shared.

        What was prepared and then registered gets its name; what was prepared and never registered
        is removed. Whether there was anything to do. May be cut short, and done again. Errors as
        `model`.
        """
        name, folder = f"{MODELS}/{model_id}", self._model(model_id)
        here = list(folder.glob(f"*{PREPARED}"))
        there = [] if self._shared is None else self._shared.names(name)
        there = [file for file in there if file.endswith(PREPARED)]
        if not here and not there and not any((folder / file).is_file() for file in names):
            return False
        before = _sums(folder, names)
        sums = _read_manifest(self.fetch(f"{name}/{MANIFEST}", sha256))
        for file in names:
            self.fetch(f"{name}/{file}", sums[file])
        if there and self._shared is not None:
            known = self._shared.read(f"{name}/{MANIFEST}")
            if known is None or hashlib.sha256(known).hexdigest() != sha256:
                for file in (*names, MANIFEST):  # the manifest last: it says that all are there
                    self._shared.upload(folder / file, f"{name}/{file}")
            for file in there:
                self._shared.remove(f"{name}/{file}")
        for path in here:
            path.unlink(missing_ok=True)
        return bool(here or there) or _sums(folder, names) != before

    def folders(self, parent: str) -> frozenset[str]:
        """Names of the folders in `parent` (MODELS, ...) that hold any file, here or shared."""
        here = {path.name for path in (self.root / parent).glob("*") if path.is_dir()}
        there = [] if self._shared is None else self._shared.names(parent)
        return frozenset(here | {name.partition("/")[0] for name in there if "/" in name})

    def peek(self, model_id: str, name: str) -> bytes | None:
        """A file of a model as it lies here, else as it is shared, unverified; None: no such."""
        path = self._model(model_id) / safe_name(name)
        if path.is_file():
            return path.read_bytes()
        return None if self._shared is None else self._shared.read(f"{MODELS}/{model_id}/{name}")

    def remove_files(self, model_id: str, unwanted: Callable[[str], bool]) -> None:
        """Remove the model's further files whose names are `unwanted`, here and shared."""
        folder = self._model(model_id)
        for path in folder.glob("*"):
            if unwanted(path.name):
                remove_path(path)
        if self._shared is not None:
            for name in self._shared.names(f"{MODELS}/{model_id}"):
                if unwanted(name):
                    self._shared.remove(f"{MODELS}/{model_id}/{name}")

    def remove_model(self, model_id: str) -> None:
        """Remove a model's files, here and shared; nothing happens where there are none."""
        self._model(model_id)
        self.remove_folder(f"{MODELS}/{model_id}")

    def remove_folder(self, name: str) -> None:
        """Remove a folder of artifacts, here and shared; nothing happens where there is none."""
        folder = self.root / safe_name(name)
        if self._shared is not None:
            self._shared.remove(f"{name}/{MANIFEST}")  # without it, it is no model
            self._shared.remove(name)
        shutil.rmtree(folder, ignore_errors=True)

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
                    remove_path(path)

    def _model(self, model_id: str) -> Path:
        name = safe_name(model_id)
        if len(name.parts) != 1:
            raise unsafe(model_id)
        return self.root / MODELS / name

    @contextmanager
    def _unfinished(self, final: Path) -> Iterator[Path]:
        """A place for what will be `final`, on its file system, so that renaming is one step.

        What is still there at the end is removed. Writers share a lock, which the kernel takes
        back from one that dies: where nobody holds it, whatever lies here belongs to the dead.
        """
        folder = self.root / _UNFINISHED
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{final.name}-{secrets.token_hex(4)}"
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                yield path
            finally:
                remove_path(path)


def _finish(unfinished: Path, final: Path) -> None:
    """Give a written file its name, on the disk."""
    sync_file(unfinished)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished.replace(final)
    sync_folder(final.parent)


def _sums(folder: Path, names: Sequence[str]) -> list[str | None]:
    """sha256 of each file; None where it is not there."""
    paths = [folder / name for name in names]
    return [file_sha256(path) if path.is_file() else None for path in paths]


def _prepared(path: Path) -> Path:
    return path.with_name(f"{path.name}{PREPARED}")


def _changed(file: Path | str, remedy: str = TRAIN_AGAIN) -> DataError:
    return DataError(
        f"{file}: is not the file that was registered (sha256 differs); restore it, or {remedy}"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_manifest(folder: Path) -> list[str]:
    """Write the manifest of a folder; the names that it lists."""
    sums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in _files(folder)}
    if not sums:
        raise ValueError("a model without files")
    for name in sums:
        safe_name(name)
    _write_sums(folder, sums)
    return sorted(sums)


def _write_sums(folder: Path, sums: dict[str, str]) -> None:
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n")


def _read_manifest(path: Path) -> dict[str, str]:
    try:
        sums = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        sums = None
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise DataError(f"{path}: is no list of a model's files; restore it, or train again")
    return sums


def sync_files(folder: Path) -> None:
    """Bring a folder and all in it to the disk."""
    for path in _files(folder):
        sync_file(path)
    for path in (*folder.rglob("*/"), folder):
        if path.is_dir():
            sync_folder(path)
