"""What is fuzzed, and what must become of every input: success, or one line of our error tree."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hypothesis.strategies import SearchStrategy

from recjob.errors import RecjobError

Outcome = Literal["used", "refused"]


@dataclass(frozen=True)
class Target:
    """A way in for bytes from outside."""

    name: str
    seeds: tuple[bytes, ...]
    """Valid ones; the first must be used."""
    use: Callable[[bytes], object]
    """What the program does with them."""
    inputs: SearchStrategy[bytes] = field(repr=False)
    """Mutations that keep the form."""
    weight: int = 8
    """How often it comes, beside the others of its group."""
    secret: str = ""
    """Valid inputs hold it where a password is; no message may."""
    file: Path | None = None
    """Where the input is put before it is used; nothing in its folder may change then."""


class FuzzError(AssertionError):
    """An input that ended in something else than success or one line."""


def outcome(target: Target, data: bytes) -> Outcome:
    """Use the input; raises FuzzError where that ends badly."""
    if target.file is not None:
        target.file.write_bytes(data)
    before = {} if target.file is None else contents(target.file.parent)
    result: Outcome = "used"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            target.use(data)
        except RecjobError as error:
            message = str(error)
            if not message or not message.isprintable():
                raise FuzzError(f"{target.name}: no line for people: {message!r}") from error
            if target.secret and target.secret in message:
                raise FuzzError(f"{target.name}: tells a secret: {message}") from error
            result = "refused"
        except Exception as error:
            raise FuzzError(f"{target.name}: {type(error).__name__}: {error}") from error
    if caught:
        raise FuzzError(f"{target.name}: a warning: {caught[0].message}")
    if target.file is not None and contents(target.file.parent) != before:
        raise FuzzError(f"{target.name}: {target.file.parent} was changed")
    return result


def contents(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Size and time of the last change of everything in a folder."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            state = (Path(path) / name).lstat()
            found[f"{path}/{name}"] = (state.st_size, state.st_mtime_ns)
    return found
