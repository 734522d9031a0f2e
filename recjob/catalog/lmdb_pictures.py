"""Pictures packed into an LMDB file: the key is the file's name, the value its bytes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from recjob.catalog.picture_source import RefusedPictureError, check_length
from recjob.errors import DataError, UserError

_opening = threading.Lock()
# One process may open a file only once (LMDB's rule), so those who read it share it. Nothing that
# writes is ever opened here.
_opened: WeakValueDictionary[str, Any] = WeakValueDictionary()


class LmdbPictures:
    """Picture files by name from an LMDB folder (or file), for several threads at once.

    Of a path, `images/291x291/ab.jpg`, the name is the key: so a catalog is the same whether its
    pictures lie in a folder or are packed.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for reading; nothing in or beside it is changed.

        Raises UserError where the package lmdb is missing, DataError where it is no LMDB file.
        """
        self._environment, self._error = _open(path)

    def read(self, image: str, max_bytes: int) -> bytes:
        """The file whose name is the last part of `image`. Raises RefusedPictureError."""
        key = image.rpartition("/")[2].encode()
        # LMDB takes no empty key and none that is longer.
        if not 0 < len(key) <= self._environment.max_key_size():
            raise RefusedPictureError("no such picture")
        try:
            with self._environment.begin(buffers=True) as transaction:
                found = transaction.get(key)
                if found is None:
                    raise RefusedPictureError("no such picture")
                check_length(len(found), max_bytes)
                return bytes(found)
        except self._error as error:
            raise RefusedPictureError(f"cannot be read ({_one_line(error)})") from None


def _open(path: Path) -> tuple[Any, type[Exception]]:
    """The environment of `path`, and what its reads raise."""
    try:
        import lmdb
    except ImportError:
        raise UserError(
            f"{path}: the package lmdb is needed to read it; pip install 'recjob[polyvore]'"
        ) from None
    with _opening:
        name = str(path.resolve())
        environment = _opened.get(name)
        if environment is None:
            try:
                # Without locks and lock file: the folder may be read-only, and nobody writes.
                environment = lmdb.open(
                    name,
                    subdir=path.is_dir(),
                    readonly=True,
                    lock=False,
                    create=False,
                    readahead=False,
                )
            except (lmdb.Error, OSError) as error:
                raise DataError(f"{path}: cannot be opened as LMDB ({_one_line(error)})") from None
            _refuse_cut_short(path, environment)
            _opened[name] = environment
        return environment, lmdb.Error


def _refuse_cut_short(path: Path, environment: Any) -> None:
    """A read behind the end of a file that was not copied whole would kill the process."""
    file = path / "data.mdb" if path.is_dir() else path
    wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = file.stat().st_size
    if found < wanted:
        raise DataError(f"{file}: is cut short at {found} of {wanted} bytes; copy it again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
