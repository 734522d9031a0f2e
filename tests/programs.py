"""Programs that recjob does without and its system tests do not: real servers, tools that check."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def installed(name: str, package: str) -> str:
    """Path of the program, on PATH or in our environment.

    Where it is missing the test fails and names Debian's `package`, or says where else to get it: a
    skip would hide that nothing was tried.
    """
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(name, path=folders)
    assert found is not None, f"{name} is not installed ({package}); .ci/run installs what it needs"
    return found
