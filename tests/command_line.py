"""Run the program's commands in this process, as a shell would."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recjob.cli import main
from recjob.settings import ENVIRONMENT_PREFIX


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        assert self.code == 0, self.err
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def error(self, code: int) -> str:
        """The message, after it proved to be one line on standard error and nothing else."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.startswith("error: "), self.err
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").strip()


Run = Callable[..., Ended]


def environment(home: Path, database_url: str | None) -> dict[str, str]:
    """The variables of the program for a home and a database; none: the embedded one."""
    values = {"RECJOB_HOME": str(home)}
    return values if database_url is None else values | {"RECJOB_DATABASE_URL": database_url}


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """`command("runs", "list", folder=..., variables=...)`: works in `folder`, default: tmp_path.

    A recjob.toml in the folder counts, the variables of this process do not.
    """
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)

    def run(
        *arguments: str, folder: Path = tmp_path, variables: dict[str, str] | None = None
    ) -> Ended:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["cli.py", *arguments])
            for name, value in (variables or {}).items():
                patch.setenv(name, value)
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run
