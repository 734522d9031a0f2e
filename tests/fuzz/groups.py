"""The three groups of targets by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target

GROUPS: Final = ("importers", "configuration", "artifacts")


def make_targets(group: str, scratch: Path) -> tuple[Target, ...]:
    """The targets of a group; their files lie in `scratch`.

    Imported here, so that only what needs torch loads it, and atheris can watch the imports.
    """
    make = getattr(import_module(f"tests.fuzz.{group}"), group)
    targets: tuple[Target, ...] = make(scratch)
    return targets
