"""`schedule --list`: when each entry is due next, and how it ended last."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from recjob.jobs.schedule_entries import SECONDS_PER_HOUR, Entry, schedule_entries
from recjob.jobs.start import prepare_home
from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.schedule_runs import ScheduleRow, last_schedule_rows, leader_exists


class ScheduledEntry(BaseModel):
    """A line of the schedule."""

    model_config = ConfigDict(frozen=True)

    entry: str
    cron: str
    """Empty: never."""
    next: datetime | None
    """In UTC."""
    after: tuple[str, ...]
    """Entries that it waits for."""
    commands: tuple[str, ...]
    """Of `python cli.py`, one after the other."""
    limit_hours: float
    last_slot: datetime | None
    """The last time that was dealt with, in UTC."""
    last_outcome: str | None
    last_attempts: int
    last_reason: str | None
    last_log: str | None


class ScheduleListing(BaseModel):
    """The schedule, and whether a scheduler is at work."""

    model_config = ConfigDict(frozen=True)

    timezone: str
    leader: bool
    """Whether a scheduler leads on this database."""
    entries: tuple[ScheduledEntry, ...]


def list_schedule(settings: Settings) -> ScheduleListing:
    """The schedule of the settings as it stands now. Errors as `run_schedule`."""
    entries = schedule_entries(settings)
    prepare_home(settings.home)
    with open_database(settings) as database, database.connect() as connection:
        rows = last_schedule_rows(connection)
        leader = leader_exists(connection)
    now = datetime.now(UTC)
    return ScheduleListing(
        timezone=settings.schedule.timezone,
        leader=leader,
        entries=tuple(_line(entry, rows.get(entry.name), now) for entry in entries),
    )


def _line(entry: Entry, row: ScheduleRow | None, now: datetime) -> ScheduledEntry:
    return ScheduledEntry(
        entry=entry.name,
        cron="" if entry.cron is None else entry.cron.expression,
        next=None if entry.cron is None else entry.cron.next(now),
        after=tuple(before.entry for before in entry.after),
        commands=tuple(shlex.join(step.arguments) for step in entry.steps),
        limit_hours=entry.limit_seconds / SECONDS_PER_HOUR,
        last_slot=None if row is None else row.slot.astimezone(UTC),
        last_outcome=None if row is None else row.outcome,
        last_attempts=0 if row is None else row.attempts,
        last_reason=None if row is None else row.reason,
        last_log=None if row is None else row.log,
    )
