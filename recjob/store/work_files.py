"""What the shards of one run have finished, where every machine that works on it finds it.

A file holds the sha256 of its content and the content. One that was torn or damaged (a machine
that lost its power, a full disk, a bad block) counts as never written: its shard is done again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from recjob.errors import TemporaryError
from recjob.store.storage import LocalStorage, open_storage, safe_name

WORK_FOLDER: Final = "work"
DIGEST_BYTES: Final = 32
"""Length of the sha256 that a file begins with."""


class WorkFolder:
    """The files of the work `name`: under the URL where there is one, else under `root`.

    Errors of every method: OSError of this machine's disk (a full one: ENOSPC), TemporaryError
    where the shared storage cannot be reached, UserError for an unsafe name.
    """

    def __init__(self, root: Path, url: str, name: str) -> None:
        folder = f"{WORK_FOLDER}/{safe_name(name).as_posix()}"
        if url:
            self._storage = open_storage(f"{url.rstrip('/')}/{folder}")
        else:
            self._storage = LocalStorage(root / folder)

    def write(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, in place of an older file; whole and on the disk, or not."""
        self._storage.write(name, hashlib.sha256(data).digest() + data)

    def read(self, name: str) -> bytes | None:
        """What was written; None where nothing was, or where it is damaged (and removed then)."""
        stored = self._storage.read(name)
        if stored is None:
            return None
        content = memoryview(stored)[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != stored[:DIGEST_BYTES]:
            self._storage.remove(name)
            return None
        return content.tobytes()

    def require(self, name: str) -> bytes:
        """What was written; TemporaryError where it is not there, or damaged: it can be redone."""
        data = self.read(name)
        if data is None:
            raise TemporaryError(f"work file {name} is missing or damaged; run the job again")
        return data

    def names(self) -> list[str]:
        """Names of the files that are there, sorted; `read` says whether they are sound."""
        return self._storage.names()

    def remove(self, name: str = "") -> None:
        """Remove a file or a folder of them; without a name all, and what killed writers left.

        Nothing happens where there is none.
        """
        self._storage.remove(name)
