"""A Dockerfile and a .dockerignore, read as far as their tests need it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    stage: int
    """The number of FROM before it, from 1; 0: before the first."""
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """As JSON where it is in exec form, else as a shell splits it."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)


def instructions(file: Path) -> list[Instruction]:
    """Every instruction; comments and blank lines are left out."""
    lines = [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    found: list[Instruction] = []
    stage = 0
    for line in joined.splitlines():
        name, _, text = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, text.strip()))
    return found


def is_ignored(path: str, ignore_file: Path) -> bool:
    """Whether a builder leaves `path` (relative, a file) out of what it is sent.

    The last pattern that fits the path or a folder above it decides; "!" takes it back.
    """
    ignored = False
    for line in ignore_file.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        exception = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip("/")
        parts = PurePosixPath(path).parts
        above = ("/".join(parts[: count + 1]) for count in range(len(parts)))
        if any(_expression(pattern).fullmatch(one) for one in above):
            ignored = not exception
    return ignored


def _expression(pattern: str) -> re.Pattern[str]:
    """Of Go's filepath.Match with `**`, which stands for any number of folders."""
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return re.compile(text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
