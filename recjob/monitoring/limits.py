"""How much memory this process may have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_VERSION_1: Final = ("memory", "memory.limit_in_bytes")
"""Controller and file of the older cgroups."""
_VERSION_2: Final = ("", "memory.max")


def memory_limit_bytes(own: Path = OWN_CGROUPS, cgroups: Path = CGROUPS) -> int:
    """The smallest limit of the cgroups that this process is in, else the machine's memory.

    `own` and `cgroups`: where Linux tells of them.
    """
    return min([int(psutil.virtual_memory().total), *_limits(own, cgroups)])


def _limits(own: Path, cgroups: Path) -> list[int]:
    """Limits of this process's cgroup and of those above; in a container only those it may see."""
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:
        return []  # not Linux
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, file in (_VERSION_1, _VERSION_2):
            if controller in controllers.split(","):
                root = cgroups / controller
                folder = root / path.lstrip("/")
                found += [
                    limit
                    for place in (folder, *folder.parents)
                    if place.is_relative_to(root) and (limit := _limit(place / file)) is not None
                ]
    return found


def _limit(file: Path) -> int | None:
    """What the file says; None where there is none, or no limit."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
