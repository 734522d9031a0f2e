"""Files under a folder or a URL: every one under its name only when it is whole.

What several machines share lies where `fsspec` reaches it (s3://, gs://, sftp://, ...), or in a
folder that all of them mount (file://). Both keep the same promise, so that a reader never meets
half a file: object stores by nature, the others by a temporary name that is moved at the end.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from fsspec import get_filesystem_class  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.utils import get_protocol  # type: ignore[import-untyped]

from recjob.catalog.disk import sync_file, sync_folder
from recjob.errors import NotFoundError, RecjobError, SettingsError, TemporaryError, UserError

MAX_NAME: Final = 128
"""Longest name of a file or folder; every common file system takes 255 bytes."""
WHOLE_BY_NATURE: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "adl", "az", "oci", "oss", "tos"}
)
"""Protocols of stores where an object appears with the end of its upload, and not before."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TEMPORARY: Final = "."
"""How a temporary name begins, and no other may."""


class Storage(Protocol):
    """Files by name ("models/student-1/manifest.json"); names come from `safe_name`."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in place of an older one."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none."""

    def upload(self, path: Path, name: str) -> None:
        """Copy a file of this machine there, in place of an older one."""

    def download(self, name: str, path: Path) -> bool:
        """Copy a file to `path`; False where there is none. Nothing is synced or verified."""

    def names(self, folder: str = "") -> list[str]:
        """Names of the whole files in a folder and all below it, sorted, relative to it."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it ("": everything); silent where none is."""


def open_storage(url: str) -> Storage:
    """The storage at a URL of fsspec; it is connected to when it is first used.

    Raises SettingsError where fsspec does not know the protocol or lacks a package for it.
    """
    try:
        kind = get_filesystem_class(get_protocol(url))
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"artifacts_url {masked(url)}: cannot be opened ({error_name(error)}); install the "
            "package of fsspec for it (s3fs, gcsfs, adlfs, ...), or name another URL"
        ) from None
    if kind is LocalFileSystem:
        return LocalStorage(Path(kind._strip_protocol(url)))
    return RemoteStorage(url)


class LocalStorage:
    """A `Storage` in a folder, synced to the disk; a full disk is an OSError as everywhere."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        self._put(name, lambda path: path.write_bytes(data))

    def read(self, name: str) -> bytes | None:
        """See `Storage`."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def upload(self, path: Path, name: str) -> None:
        """See `Storage`."""
        self._put(name, lambda target: shutil.copyfile(path, target))

    def download(self, name: str, path: Path) -> bool:
        """See `Storage`."""
        source = self._path(name)
        if not source.is_file():
            return False
        shutil.copyfile(source, path)
        return True

    def names(self, folder: str = "") -> list[str]:
        """See `Storage`."""
        root = self._path(folder) if folder else self._root
        files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in files if _is_whole(path.as_posix()))

    def remove(self, name: str) -> None:
        """See `Storage`."""
        remove_path(self._path(name) if name else self._root)

    def _put(self, name: str, write: Callable[[Path], object]) -> None:
        final = self._path(name)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(_temporary(final.name))
        try:
            write(temporary)
            sync_file(temporary)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(final.parent)

    def _path(self, name: str) -> Path:
        return self._root / safe_name(name)


class RemoteStorage:
    """A `Storage` at any URL of fsspec.

    Every method raises TemporaryError where the storage cannot be reached, UserError where it
    refuses, and NotFoundError where there is no such bucket to write to: in one line that names
    the URL without its secrets.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        self._put(name, lambda path: self._opened[0].pipe_file(path, data))

    def read(self, name: str) -> bytes | None:
        """See `Storage`."""
        with self._told():
            filesystem, path = self._opened[0], self._path(name)
            try:
                data: bytes = filesystem.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    def upload(self, path: Path, name: str) -> None:
        """See `Storage`."""
        self._put(name, lambda target: self._opened[0].put_file(str(path), target))

    def download(self, name: str, path: Path) -> bool:
        """See `Storage`."""
        with self._told():
            try:
                self._opened[0].get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
            return True

    def names(self, folder: str = "") -> list[str]:
        """See `Storage`."""
        with self._told():
            filesystem, root = self._opened
            if folder:
                root = self._path(folder)
            filesystem.invalidate_cache()  # other machines write too
            try:
                paths: list[str] = filesystem.find(root)
            except FileNotFoundError:
                return []
            inside = (path.removeprefix(f"{root}/") for path in paths)
            return sorted(name for name in inside if _is_whole(name))

    def remove(self, name: str) -> None:
        """See `Storage`."""
        with self._told():
            filesystem, root = self._opened
            filesystem.invalidate_cache()
            try:
                filesystem.rm(self._path(name) if name else root, recursive=True)
            except FileNotFoundError:
                return

    def _put(self, name: str, write: Callable[[str], object]) -> None:
        with self._told():
            filesystem, final = self._opened[0], self._path(name)
            protocols = filesystem.protocol
            if not WHOLE_BY_NATURE.isdisjoint(
                (protocols,) if isinstance(protocols, str) else protocols
            ):
                write(final)
                return
            folder, _, last = final.rpartition("/")
            filesystem.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/{_temporary(last)}"
            write(temporary)
            filesystem.mv(temporary, final)

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{safe_name(name).as_posix()}"

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system, and the path of the URL on it."""
        filesystem, root = url_to_fs(self._url)
        return filesystem, str(root).rstrip("/")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a driver raises as an error of the tree.

        Drivers raise classes of their own, whose texts may hold signed URLs or keys: only the
        class and the system's own words for a number are told.
        """
        try:
            yield
        except RecjobError:
            raise
        except FileNotFoundError:
            raise NotFoundError(
                f"{masked(self._url)}: there is no such bucket or folder; make it, or name another "
                "URL"
            ) from None
        except PermissionError as error:
            raise UserError(
                f"{masked(self._url)}: access is refused ({error_name(error)}); check the "
                "credentials of this machine, and what they may do there"
            ) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
                raise  # this machine's disk, or a mounted one: told as every full disk
            raise TemporaryError(
                f"{masked(self._url)}: the shared storage cannot be used "
                f"({error_name(error)}); check the network and its credentials, and retry"
            ) from error


def safe_name(name: str) -> Path:
    """`name` as a relative path that stays where it is put; raises UserError for any other."""
    parts = name.split("/")
    if any(len(part) > MAX_NAME or not _NAME.fullmatch(part) for part in parts):
        raise unsafe(name)
    return Path(*parts)


def unsafe(name: str) -> UserError:
    """The error for a name that is none."""
    return UserError(
        f"{name!r} cannot name an artifact; letters, digits, '.', '_' and '-' can, in parts joined "
        "by '/' that begin with a letter or digit"
    )


def masked(url: str) -> str:
    """A URL for people: without user, password and query, which may hold keys."""
    return re.sub(r"://.*@", "://***@", url.partition("?")[0])


def error_name(error: BaseException) -> str:
    """An error as its class and, of the system's errors, the system's words; never its text."""
    number = error.errno if isinstance(error, OSError) else None
    words = f": {os.strerror(number)}" if isinstance(number, int) else ""
    return f"{type(error).__name__}{words}"


def remove_path(path: Path) -> None:
    """Remove a file, or a folder with all in it; silent where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _temporary(name: str) -> str:
    return f"{_TEMPORARY}{secrets.token_hex(8)}-{name}"


def _is_whole(name: str) -> bool:
    return not any(part.startswith(_TEMPORARY) for part in name.split("/"))
