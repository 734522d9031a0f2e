"""Packed pictures: decoded once, then read as one array of pixels by training and embedding.

A folder holds `pixels.u8`, the squares one after the other, and `index.txt`, the sha256 of the
picture file behind each. Pixels are on disk before the index that names them, and the index is
replaced in one step, so that a killed import leaves a whole store; what lies beyond the index is
cut off by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import Int64Array
from recjob.catalog.decode import Decoded, UInt8Array, decode_file
from recjob.catalog.picture_source import PictureSource
from recjob.errors import DataError, SettingsError, TemporaryError
from recjob.settings import ImageSettings

_MAGIC = "recjob packed pictures 1, side "
_CHANNELS = 3
_HASH_CHARACTERS = 64
# Pictures decoded before they are written: 256 squares of 224 pixels are 39 MB.
_CHUNK = 256
# The index is rewritten after so many new pictures, or an eighth of what is there: a killed import
# loses little, and a large one does not write the index over and over.
_COMMIT_PICTURES = 2048
_COMMIT_SHARE = 8


@dataclass(frozen=True)
class BadImage:
    """A picture that cannot be used, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class ImageReport:
    """What `add` did."""

    hashes: tuple[str, ...]
    """(n_images,) sha256 (hex) of each picture file; "" for the bad ones."""
    bad: tuple[BadImage, ...]
    added: int
    """Pictures that were not there before."""


class PackedImages:
    """Squares of `size` pixels by the sha256 of the file they came from."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self._load()

    @classmethod
    def open(cls, folder: Path, size: int) -> PackedImages:
        """Open the store in `folder`, or make an empty one.

        Raises SettingsError when it holds pictures of another size, DataError when it is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / "index.txt"
        if not index.exists():
            with _locked(folder):
                if not index.exists():
                    (folder / "pixels.u8").touch()
                    _replace(index, f"{_MAGIC}{size}\n".encode())
        return cls(folder, size)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def pixels(self) -> UInt8Array:
        """(n, size, size, 3) red, green and blue; read-only, on disk until it is read."""
        shape = (len(self), self.size, self.size, _CHANNELS)
        if not len(self):
            empty = np.empty(shape, dtype=np.uint8)
            empty.flags.writeable = False
            return empty
        return np.memmap(self.folder / "pixels.u8", dtype=np.uint8, mode="r", shape=shape)

    def rows(self, hashes: Sequence[str]) -> Int64Array:
        """(n,) the row of `pixels` of each hash.

        Raises DataError that counts and names those that are not there.
        """
        wanted = np.array(hashes, dtype=np.str_).astype("S")
        places = np.searchsorted(self._hashes, wanted, sorter=self._order)
        if not len(self):
            missing = np.ones(wanted.size, dtype=np.bool_)
            rows = np.zeros(wanted.size, dtype=np.int64)
        else:
            rows = self._order[np.minimum(places, len(self) - 1)]
            missing = self._hashes[rows] != wanted
        if missing.any():
            first = wanted[missing][0].decode()
            raise DataError(
                f"{self.folder}: {int(missing.sum())} of {wanted.size} pictures are missing "
                f"(the first has sha256 {first or 'of nothing'}); import the items again"
            )
        return rows

    def add(
        self,
        source: PictureSource,
        images: Sequence[str],
        settings: ImageSettings,
        on_progress: Callable[[int], None] | None = None,
    ) -> ImageReport:
        """Decode and pack the pictures `images` of `source` that are not packed yet.

        A bad picture never stops the others. `on_progress` is told how many pictures are done so
        far. Waits while another process adds to the same store.

        Raises TemporaryError when the disk is full.
        """
        hashes: list[str] = []
        bad: list[BadImage] = []
        with _locked(self.folder):
            self._load()
            before = len(self)
            known = {name.decode() for name in self._hashes.tolist()}
            workers = settings.workers or len(os.sched_getaffinity(0))
            work = partial(decode_file, source, self.size, settings, known)
            try:
                with self._writer() as add, ThreadPoolExecutor(workers) as pool:
                    for start in range(0, len(images), _CHUNK):
                        chunk = images[start : start + _CHUNK]
                        for image, decoded in zip(chunk, pool.map(work, chunk), strict=True):
                            hashes.append("" if decoded.reason else decoded.sha256)
                            if decoded.reason:
                                bad.append(BadImage(image, decoded.reason))
                            elif decoded.pixels is not None and decoded.sha256 not in known:
                                known.add(decoded.sha256)
                                add(decoded)
                        if on_progress:
                            on_progress(start + len(chunk))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise TemporaryError(
                        f"{self.folder}: the disk is full; make room and import again"
                    ) from None
                raise
            finally:
                self._load()
        return ImageReport(tuple(hashes), tuple(bad), len(self) - before)

    @contextmanager
    def _writer(self) -> Iterator[Callable[[Decoded], None]]:
        """A function that appends a picture; the index follows now and then, and at the end."""
        names = [name.decode() for name in self._hashes.tolist()]
        pending = 0
        with (self.folder / "pixels.u8").open("r+b") as file:
            file.truncate(len(names) * self._bytes_per_picture)
            file.seek(0, os.SEEK_END)

            def add(decoded: Decoded) -> None:
                nonlocal pending
                assert decoded.pixels is not None
                file.write(decoded.pixels.tobytes())
                names.append(decoded.sha256)
                pending += 1
                if pending >= max(_COMMIT_PICTURES, len(names) // _COMMIT_SHARE):
                    self._commit(file, names)
                    pending = 0

            yield add
            if pending:
                self._commit(file, names)

    def _commit(self, file: BinaryIO, names: list[str]) -> None:
        file.flush()
        os.fsync(file.fileno())
        lines = "\n".join([f"{_MAGIC}{self.size}", *names, ""])
        _replace(self.folder / "index.txt", lines.encode())

    @property
    def _bytes_per_picture(self) -> int:
        return self.size * self.size * _CHANNELS

    def _load(self) -> None:
        path = self.folder / "index.txt"
        damaged = f"{path}: is damaged; delete the folder {self.folder} and import again"
        head, _, rest = path.read_bytes().decode("ascii", "replace").partition("\n")
        names = rest.split()
        if not head.startswith(_MAGIC) or not head.removeprefix(_MAGIC).isdigit():
            raise DataError(damaged)
        size = int(head.removeprefix(_MAGIC))
        if size != self.size:
            raise SettingsError(
                f"{self.folder}: holds pictures of {size} pixels, but images.size is {self.size}; "
                f"set images.size = {size}, or delete the folder and import again"
            )
        pixels = self.folder / "pixels.u8"
        if any(len(name) != _HASH_CHARACTERS for name in names) or (
            not pixels.exists() or pixels.stat().st_size < len(names) * self._bytes_per_picture
        ):
            raise DataError(damaged)
        self._hashes: NDArray[np.bytes_] = np.array(names, dtype=f"S{_HASH_CHARACTERS}")
        self._order = np.argsort(self._hashes, kind="stable").astype(np.int64)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the store's lock; the operating system lets go of it when the process dies."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
