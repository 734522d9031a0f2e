"""Where the bytes of picture files come from: a folder, or a packed file of a data set."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol


class RefusedPictureError(Exception):
    """A picture that cannot be had, for a reason that is told to people."""


class PictureSource(Protocol):
    """Gives the bytes of picture files by name; used by several threads at once."""

    def read(self, image: str, max_bytes: int) -> bytes:
        """The file `image`.

        Raises RefusedPictureError where it is missing, unreadable or longer than `max_bytes`.
        """
        ...


class FolderPictures:
    """Picture files by their path inside a folder; nothing outside it is ever read."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def read(self, image: str, max_bytes: int) -> bytes:
        """The file at the path `image`; links are followed as long as they stay inside.

        Raises RefusedPictureError.
        """
        if not image:
            raise RefusedPictureError("no picture is named")
        path = os.path.realpath(os.path.join(self._root, image))  # noqa: PTH118
        if not path.startswith(self._root.rstrip(os.sep) + os.sep):
            raise RefusedPictureError("lies outside the folder")
        try:
            return _read_file(path, max_bytes)
        except FileNotFoundError:
            raise RefusedPictureError("no such file") from None
        except OSError as error:
            raise RefusedPictureError(f"cannot be read ({error.strerror})") from None


def check_length(length: int, max_bytes: int) -> None:
    """Raise RefusedPictureError where a picture file is longer than the settings allow."""
    if length > max_bytes:
        raise RefusedPictureError(f"{length} bytes are more than images.max_bytes ({max_bytes})")


def _read_file(path: str, max_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedPictureError("not a file")
        check_length(status.st_size, max_bytes)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(descriptor)
