"""Commands in processes of their own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from recjob.settings import ENVIRONMENT_PREFIX

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300
"""For what takes seconds on an idle machine."""


def command_line(*arguments: str) -> list[str]:
    """`python cli.py ...` of this checkout."""
    return [sys.executable, str(ROOT / "cli.py"), *arguments]


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's variables without the program's, and these."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }
    return inherited | variables


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
