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
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import Int64Array
from recjob.catalog.decode import (
    Decoded,
    DecodingRoom,
    UInt8Array,
    decode_file,
    quiet_decoders,
)
from recjob.catalog.disk import replace_file
from recjob.catalog.picture_source import PictureSource
from recjob.errors import DataError, SettingsError, TemporaryError
from recjob.settings import ImageSettings

_MAGIC = "recjob packed pictures 1, side "
_CHANNELS = 3
_HASH_CHARACTERS = 64
# Pictures per thread that wait to be decoded or to be written: enough that nobody waits for the
# slowest one, and 39 MB of squares of 224 pixels for 32 threads.
_AHEAD = 8
# The index is written anew after so many new pictures, but not before so many times the seconds
# that it took last: a killed import decodes few again, and a huge one spends 2 % on its index.
_COMMIT_PICTURES = 2048
_COMMIT_REST = 50
# Pictures between two words on progress.
_TOLD = 64


@dataclass(frozen=True)
class BadImage:
    """A picture that cannot be used, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class ImageReport:
    """What `add` or `pack_sizes` did."""

    hashes: tuple[str, ...]
    """(n_images,) sha256 (hex) of each picture file; "" for the bad ones."""
    bad: tuple[BadImage, ...]
    added: int
    """Pictures that were not there before; of several stores the most."""


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
                    replace_file(index, f"{_MAGIC}{size}\n".encode())
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

        As `pack_sizes` with this store alone.
        """
        return pack_sizes([self], source, images, settings, on_progress)

    @property
    def _bytes_per_picture(self) -> int:
        return self.size * self.size * _CHANNELS

    def _load(self) -> None:
        path = self.folder / "index.txt"
        damaged = f"{path}: is damaged; delete the folder {self.folder} and import again"
        try:
            head, _, rest = path.read_bytes().decode("ascii").partition("\n")
            size = int(head.removeprefix(_MAGIC)) if head.startswith(_MAGIC) else 0
        except ValueError:
            raise DataError(damaged) from None
        names = rest.split()
        if size < 1:
            raise DataError(damaged)
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


def pack_sizes(
    stores: Sequence[PackedImages],
    source: PictureSource,
    images: Sequence[str],
    settings: ImageSettings,
    on_progress: Callable[[int], None] | None = None,
) -> ImageReport:
    """Add the pictures `images` of `source` to stores of different sizes, each file read once.

    Only pictures that are not packed yet are decoded, by all cores, and written in the order of
    `images`: an import that was killed and started again leaves the files of an undisturbed one.
    A bad picture never stops the others. `on_progress` is told now and then how many pictures are
    done, and at the end. Waits while another process adds to one of the stores.

    Raises TemporaryError when the disk is full.
    """
    hashes: list[str] = []
    bad: list[BadImage] = []
    workers = settings.workers or len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        # In one order everywhere, so that two imports never wait for each other.
        for store in sorted(stores, key=lambda store: str(store.folder)):
            stack.enter_context(_locked(store.folder))
            store._load()
            stack.callback(store._load)
        writers = [stack.enter_context(_Writer(store)) for store in stores]
        known = {writer.size: writer.known for writer in writers}
        work = partial(decode_file, source, known, settings, DecodingRoom())
        stack.enter_context(quiet_decoders())
        pictures = stack.enter_context(closing(_in_order(work, images, workers)))
        for image, decoded in zip(images, pictures, strict=True):
            hashes.append("" if decoded.reason else decoded.sha256)
            if decoded.reason:
                bad.append(BadImage(image, decoded.reason))
            for writer in writers:
                square = decoded.squares.get(writer.size)
                # Two files of one content may have been decoded side by side.
                if square is not None and decoded.sha256 not in writer.known:
                    writer.add(decoded.sha256, square)
            if on_progress and (len(hashes) % _TOLD == 0 or len(hashes) == len(images)):
                on_progress(len(hashes))
    return ImageReport(tuple(hashes), tuple(bad), max(writer.added for writer in writers))


def _in_order(
    work: Callable[[str], Decoded], images: Sequence[str], workers: int
) -> Generator[Decoded]:
    """The results in the order of `images`, a bounded number of them ahead of the reader."""
    # Threads: nearly all of the work is done by libraries that let go of the interpreter.
    with ThreadPoolExecutor(workers, "decode") as pool:
        ahead: deque[Future[Decoded]] = deque()
        try:
            for image in images:
                if len(ahead) >= workers * _AHEAD:
                    yield ahead.popleft().result()
                ahead.append(pool.submit(work, image))
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Writer:
    """Appends pictures to a store; the index follows now and then, and at the end."""

    def __init__(self, store: PackedImages) -> None:
        self.size = store.size
        self._folder = store.folder
        self._names = [name.decode() for name in store._hashes.tolist()]
        self.known = set(self._names)
        """Hashes that need no decoding."""
        self._before = self._committed = len(self._names)
        self._rest_until = 0.0

    @property
    def added(self) -> int:
        """Pictures so far."""
        return len(self._names) - self._before

    def __enter__(self) -> Self:
        self._file = (self._folder / "pixels.u8").open("r+b")
        self._file.truncate(self._before * self.size * self.size * _CHANNELS)
        self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # An import that is stopped keeps what it has; after a failed write the end is not whole.
        try:
            if not isinstance(error, TemporaryError | OSError):
                self._commit()
        finally:
            self._close()

    def add(self, sha256: str, square: UInt8Array) -> None:
        """Append the square of a picture that is not known yet."""
        with self._full_disk_told():
            self._file.write(np.ascontiguousarray(square).data)
        self._names.append(sha256)
        self.known.add(sha256)
        if (
            len(self._names) - self._committed >= _COMMIT_PICTURES
            and time.monotonic() >= self._rest_until
        ):
            self._commit()

    def _commit(self) -> None:
        """Pixels to the disk, then the index that names them."""
        if len(self._names) == self._committed:
            return
        start = time.monotonic()
        with self._full_disk_told():
            self._file.flush()
            os.fsync(self._file.fileno())
            lines = "\n".join([f"{_MAGIC}{self.size}", *self._names, ""])
            replace_file(self._folder / "index.txt", lines.encode())
        self._committed = len(self._names)
        end = time.monotonic()
        self._rest_until = end + _COMMIT_REST * (end - start)

    def _close(self) -> None:
        with suppress(OSError):  # of pixels that no index names
            self._file.close()

    @contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TemporaryError(
                    f"{self._folder}: the disk is full; make room and import again"
                ) from None
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the store's lock; the operating system lets go of it when the process dies."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
