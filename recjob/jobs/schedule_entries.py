"""The entries of the schedule: when each is due, its commands, and what it comes after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from recjob.jobs.schedule_cron import Cron, named_zone
from recjob.settings import ScheduleSettings, Settings

PROGRAM: Final = Path(__file__).resolve().parents[2] / "cli.py"
SECONDS_PER_HOUR: Final = 3600.0

CommandBuilder = Callable[[Sequence[str]], list[str]]
"""Arguments of the command line to the whole command."""


class Tie(StrEnum):
    """What an entry asks of one before it."""

    SUCCEEDED = "succeeded"
    """That it has ended, and well; otherwise this one is skipped."""
    ENDED = "ended"
    """That it has ended; how is all the same, since what was there before it serves."""
    FINISHING = "finishing"
    """Nothing, except that what is past its first command may finish: a student that is already
    trained is waited for, not one that will train all day."""


@dataclass(frozen=True)
class Step:
    """A command of an entry, and its name in the ledger."""

    job: str
    arguments: tuple[str, ...]
    reads: Mapping[str, str | bool] | None = None
    """Of an import: parameters of its runs, since the import of another folder, or not of all that
    the shop has, is another thing."""


@dataclass(frozen=True)
class Dependency:
    """An entry that another comes after."""

    entry: str
    tie: Tie = Tie.ENDED


@dataclass(frozen=True)
class Entry:
    """A line of the schedule."""

    name: str
    cron: Cron | None
    """None: it never runs."""
    steps: tuple[Step, ...]
    """One after the other; each needs the one before it."""
    limit_seconds: float
    """Of all steps together."""
    after: tuple[Dependency, ...] = ()

    @property
    def identity(self) -> str:
        """The cron expression with its zone; empty where it never runs."""
        return "" if self.cron is None else self.cron.identity


def schedule_entries(settings: Settings) -> tuple[Entry, ...]:
    """The schedule of the settings, each entry behind those that it comes after.

    Raises SettingsError, which names the key, for an expression or a zone that is none.
    """
    schedule = settings.schedule
    zone = named_zone(schedule.timezone, "schedule.timezone")

    def cron(key: str) -> Cron | None:
        expression: str = getattr(schedule, key).strip()
        return Cron(expression, zone, f"schedule.{key}") if expression else None

    def entry(name: str, steps: tuple[Step, ...], *after: Dependency) -> Entry:
        hours: float = getattr(schedule, f"{name}_hours")
        return Entry(name, cron(f"{name}_cron"), steps, hours * SECONDS_PER_HOUR, after)

    imported = Dependency("import")
    fresh = imported if schedule.stale_catalog else Dependency("import", Tie.SUCCEEDED)
    pictures, taught = Dependency("autoencoder"), Dependency("teacher")
    importing = entry("import", _import_steps(schedule))
    if not schedule.import_folder:
        importing = Entry("import", None, (), importing.limit_seconds)
    return (
        importing,
        entry("autoencoder", (_training("train-autoencoder"),), imported),
        entry("teacher", (_training("train-teacher"),), imported, pictures),
        entry(
            "student",
            (_training("distill"), _plain("compile"), _plain("gate")),
            *(imported, pictures, taught),
        ),
        entry("embed", (_plain("embed"),), fresh, Dependency("student", Tie.FINISHING)),
        entry("nightly", (_plain("nightly-recommend"),), fresh, Dependency("embed")),
        entry("retention", (_plain("retention"),)),
    )


def program(settings_file: Path | None) -> CommandBuilder:
    """Builds `python cli.py ...` with the scheduler's own settings file."""
    options = [] if settings_file is None else ["--settings", str(settings_file)]
    return lambda arguments: [sys.executable, str(PROGRAM), *arguments, *options]


def _import_steps(schedule: ScheduleSettings) -> tuple[Step, ...]:
    options = ("--snapshot",) if schedule.import_snapshot else ()
    arguments = ("import", "tables", schedule.import_folder, *options)
    reads: dict[str, str | bool] = {"folder": str(Path(schedule.import_folder).resolve())}
    if schedule.import_snapshot:
        reads["snapshot"] = True
    return (Step("import", arguments, reads),)


def _training(job: str) -> Step:
    return Step(job, (job, "--if-changed"))


def _plain(job: str) -> Step:
    return Step(job, (job,))
