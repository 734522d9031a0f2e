"""Which code this is: the release, and a digest of the sources that run."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from recjob import __version__

PACKAGE: Final = Path(__file__).resolve().parent
_DIGITS: Final = 12
"""Of the digest: enough that no two states of the sources share them by chance."""


@cache
def source_version() -> str:
    """`0.1.0+3f2a9c1d4e5b`: the same wherever these sources lie, another after any change."""
    return f"{__version__}+{source_digest(PACKAGE)[:_DIGITS]}"


def source_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the Python files below a folder, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
