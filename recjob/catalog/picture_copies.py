"""Copy the pictures of a catalog, wherever they are, into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from recjob.catalog.picture_source import PictureSource, RefusedPictureError
from recjob.errors import UserError
from recjob.settings import ImageSettings

_CHUNK: Final = 1024
"""Pictures handed to the threads at a time, so that 200,000 do not wait in a queue."""


@dataclass(frozen=True)
class MissingPicture:
    """A picture that could not be copied, and why."""

    image: str
    reason: str


def copy_pictures(
    source: PictureSource,
    names: Mapping[str, str],
    target: Path,
    settings: ImageSettings,
    link_from: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[MissingPicture, ...]:
    """Write each picture of `source` to its new path in `target`; `names` gives it by the old one.

    With `link_from`, the folder that the old paths are in, files are hard links instead of copies.
    Returns the pictures that could not be had: the others are there.

    Raises UserError where a file cannot be linked.
    """
    for folder in {str(PurePosixPath(new).parent) for new in names.values()}:
        (target / folder).mkdir(parents=True, exist_ok=True)

    def copy(pair: tuple[str, str]) -> MissingPicture | None:
        old, new = pair
        try:
            content = source.read(old, settings.max_bytes)
        except RefusedPictureError as refusal:
            return MissingPicture(old, str(refusal))
        if link_from is None:
            (target / new).write_bytes(content)
        else:
            _link(link_from / old, target / new)
        return None

    missing: list[MissingPicture] = []
    pairs = list(names.items())
    with ThreadPoolExecutor(settings.workers or len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            missing += [found for found in pool.map(copy, chunk) if found]
            if on_progress:
                on_progress(start + len(chunk))
    return tuple(missing)


def _link(old: Path, new: Path) -> None:
    try:
        # What a symbolic link leads to, so that the new folder holds nothing but files.
        os.link(old.resolve(), new)
    except OSError as error:
        raise UserError(
            f"{old}: cannot be linked ({error.strerror}); leave --link out to copy the pictures"
        ) from None
