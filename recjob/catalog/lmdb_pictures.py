"""Pictures packed into an LMDB file: the key is the file's name, the value its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recjob.catalog.lmdb_file import LmdbFile, LmdbFileError
from recjob.catalog.picture_source import RefusedPictureError, check_length
from recjob.errors import DataError

DATA_FILE: Final = "data.mdb"
"""What LMDB calls its file where it is given a folder."""


class LmdbPictures:
    """Picture files by name from an LMDB folder (or file), for several threads at once.

    Of a path, `images/291x291/ab.jpg`, the name is the key: so a catalog is the same whether its
    pictures lie in a folder or are packed.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for reading; nothing in or beside it is changed.

        Raises DataError where it is no LMDB file, or not a whole one.
        """
        file = path / DATA_FILE if path.is_dir() else path
        try:
            self._file = LmdbFile(file)
        except LmdbFileError as error:
            raise DataError(f"{file}: {error}") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be opened as LMDB ({error.strerror})") from None

    def read(self, image: str, max_bytes: int) -> bytes:
        """The file whose name is the last part of `image`. Raises RefusedPictureError."""
        try:
            found = self._file.find(image.rpartition("/")[2].encode())
            if found is None:
                raise RefusedPictureError("no such picture")
            start, length = found
            check_length(length, max_bytes)
            return self._file.read(start, length)
        except LmdbFileError as error:
            raise RefusedPictureError(f"the LMDB file {error}") from None
        except OSError as error:
            raise RefusedPictureError(f"cannot be read ({error.strerror})") from None
