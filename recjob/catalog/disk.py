"""Files that are on the disk, and there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Bring a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file in place of the one before; whoever reads it meets one of the two, whole."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(content)
    sync_file(unfinished)
    unfinished.replace(path)
    sync_folder(path.parent)
    return path
