"""A student ahead of its time, where the data have changed much since the last was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from recjob.jobs.schedule_due import UNSUCCESSFUL, Waiting
from recjob.jobs.schedule_entries import Entry
from recjob.store.data_growth import data_change
from recjob.store.schedule_runs import ScheduleRow, newest_done_import_and_night

STUDENT: Final = "student"


class EarlyStudent:
    """Looks once at each import, after the night that follows it: that night comes first.

    Only where the last student became active: one that the gate refused leaves the data as new as
    they were, and every further import would train another like it.
    """

    def __init__(self, early_change: float) -> None:
        self._early_change = early_change
        self._seen: tuple[int | None, int | None] | None = None

    def look(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        rows: Mapping[str, ScheduleRow],
        waiting: Waiting,
        now: datetime,
    ) -> None:
        """Put the student among what waits, where it shall run now."""
        row = rows.get(STUDENT)
        scheduled = any(entry.name == STUDENT and entry.cron is not None for entry in entries)
        if not scheduled or row is None or row.outcome in (*UNSUCCESSFUL, "running"):
            return
        seen = newest_done_import_and_night(connection)
        imported, night = seen
        if seen == self._seen or imported is None or night is None or night < imported:
            return
        self._seen = seen
        # Not by jobs/retraining.py: that would bring torch into a process that runs for months.
        change = data_change(connection, STUDENT)
        if change is not None and change >= self._early_change:
            waiting.ahead(STUDENT, now, f"ahead of its time: {change:.1%} of the data are new")
