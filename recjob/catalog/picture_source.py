"""Where the bytes of picture files come from: a folder, or a packed file of a data set."""

from __future__ import annotations

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
