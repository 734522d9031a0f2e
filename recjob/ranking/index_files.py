"""Files of an index on the disk: written whole, hashed, and on the disk before they are named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

Write = Callable[[bytes], int]


def write_synced(path: Path, fill: Callable[[Write], object]) -> str:
    """Write `path` by what `fill` hands to the function it is given; sha256 (hex) of it all.

    On the disk when it returns; raises OSError where the disk is full.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def write(data: bytes) -> int:
            digest.update(data)
            return file.write(data)

        fill(write)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
