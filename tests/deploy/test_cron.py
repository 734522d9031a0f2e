"""The crontab does what the default schedule does, with commands that exist."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from recjob.cli.app import app
from recjob.jobs.schedule_entries import schedule_entries
from recjob.settings import ScheduleSettings, Settings

CRONTAB = Path(__file__).resolve().parents[2] / "deploy" / "cron" / "crontab"
FIELDS = 5
EXPORT = "$EXPORT"


@dataclass(frozen=True)
class Line:
    """A job of the crontab."""

    cron: str
    commands: tuple[tuple[str, ...], ...]
    """What follows `cli.py`, of each command."""


def lines() -> Iterator[Line]:
    for line in CRONTAB.read_text(encoding="utf-8").splitlines():
        parts = line.split(maxsplit=FIELDS)
        if not line.strip() or line.startswith("#") or "=" in parts[0]:
            continue
        words = [shlex.split(command) for command in parts[FIELDS].split("&&")]
        assert words[0] == ["cd", "$RECJOB"]
        assert all(command[:2] == [".venv/bin/python", "cli.py"] for command in words[1:])
        yield Line(" ".join(parts[:FIELDS]), tuple(tuple(command[2:]) for command in words[1:]))


def test_each_entry_of_the_default_schedule_is_there_and_nothing_else() -> None:
    settings = Settings(schedule=ScheduleSettings(import_folder=EXPORT))
    scheduled = {
        (entry.cron.expression, tuple(step.arguments for step in entry.steps))
        for entry in schedule_entries(settings)
        if entry.cron is not None
    }
    assert {(line.cron, line.commands) for line in lines()} == scheduled


@pytest.mark.parametrize("arguments", sorted({c for line in lines() for c in line.commands}))
def test_each_command_line_is_one_of_the_program(arguments: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    words = list(arguments)
    while hasattr(command, "commands"):
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]
    command.make_context("cli.py", words)  # raises for an unknown option, or an argument too many
