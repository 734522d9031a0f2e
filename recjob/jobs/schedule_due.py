"""What is to be done now: which times have come or were missed, and who has to wait for whom.

A pure function of the ledger's rows and the clock, so that downtime, a crash and a change of the
schedule need no case of their own: a scheduler that starts asks the same question as one that has
run for months.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from recjob.jobs.schedule_entries import Entry, Tie
from recjob.settings import ScheduleSettings
from recjob.store.schedule_runs import ScheduleRow

GRACE: Final = timedelta(minutes=1)
"""A look at the clock comes a little after the time; that alone never makes a run too late."""
FIRST_SEEN: Final = "new in the schedule: begins with its next time"
TAKEN_OUT: Final = "taken out of the schedule"
STOPPED: Final = "the scheduler was stopped; the next one takes it up"
"""Why a run is killed that nobody can blame: it is taken up as often as that happens."""
UNSUCCESSFUL: Final = ("failed", "killed", "refused")


@dataclass(frozen=True)
class Running:
    """A run of this scheduler that has not ended."""

    started: datetime
    steps_done: int


@dataclass(frozen=True)
class Start:
    """Run the entry for this time."""

    entry: Entry
    slot: datetime
    reason: str | None = None


@dataclass(frozen=True)
class Skip:
    """Deal with this time without a run."""

    entry: Entry
    slot: datetime
    reason: str
    outcome: Literal["skipped", "killed"] = "skipped"


@dataclass(frozen=True)
class Noticed:
    """A time that has come and was not dealt with yet."""

    slot: datetime
    since: datetime
    """When this scheduler saw it first: waiting is counted from here."""
    reason: str | None = None


@dataclass
class Waiting:
    """What has come and waits for those before it, by entry; lasts from tick to tick."""

    noticed: dict[str, Noticed] = field(default_factory=dict)

    def ahead(self, entry: str, now: datetime, reason: str) -> None:
        """The entry shall run now, whatever its cron expression says."""
        self.noticed.setdefault(entry, Noticed(now, now, reason))


Action = Start | Skip


def plan(
    entries: Sequence[Entry],
    rows: Mapping[str, ScheduleRow],
    running: Mapping[str, Running],
    waiting: Waiting,
    now: datetime,
    settings: ScheduleSettings,
) -> list[Action]:
    """What to do now. `rows`: the latest of each entry; `waiting` is brought up to date."""
    actions: list[Action] = []
    for entry in entries:
        if entry.name in running:
            waiting.noticed.pop(entry.name, None)
            continue
        row = rows.get(entry.name)
        action: Action | None = _baseline(entry, row, now)
        if action is None:
            action = _notice(entry, row, waiting, now, settings)
        if action is None and entry.name in waiting.noticed:
            busy = {chosen.entry.name for chosen in actions}
            action = _decide(entry, rows, running, busy, waiting, now, settings)
        if action is not None:
            actions.append(action)
    for action in actions:
        waiting.noticed.pop(action.entry.name, None)
    return actions


def _baseline(entry: Entry, row: ScheduleRow | None, now: datetime) -> Skip | None:
    """An entry that is new, or whose expression changed, has missed nothing."""
    if row is None:
        return None if entry.cron is None else Skip(entry, now, FIRST_SEEN)
    if row.cron != entry.identity:
        return Skip(entry, now, TAKEN_OUT if entry.cron is None else FIRST_SEEN)
    return None


def _notice(
    entry: Entry,
    row: ScheduleRow | None,
    waiting: Waiting,
    now: datetime,
    settings: ScheduleSettings,
) -> Skip | None:
    """Note the latest time that has come; times before it are made up for by the same run."""
    if entry.cron is None or row is None:
        return None
    earliest = now - timedelta(hours=settings.catch_up_hours) - GRACE
    known = waiting.noticed.get(entry.name)
    after = row.slot if known is None else max(row.slot, known.slot)
    slot = entry.cron.latest(max(after, earliest), now)
    if slot is not None:
        since = now if known is None else known.since
        waiting.noticed[entry.name] = Noticed(slot, since, None)
    elif known is None and row.outcome in ("running", "killed") and row.slot >= earliest:
        if row.reason == STOPPED or row.attempts <= settings.retries + len(entry.steps):
            waiting.noticed[entry.name] = Noticed(row.slot, now, None)
        elif row.outcome == "running":
            return Skip(entry, row.slot, f"cut short after {row.attempts} attempts", "killed")
    elif known is None and row.slot < earliest:
        hours = f"{settings.catch_up_hours:g} hours (catch_up_hours)"
        missed = entry.cron.latest(row.slot, earliest)
        if missed is not None:
            return Skip(entry, missed, f"missed by more than {hours}")
        if row.outcome == "running":
            return Skip(entry, row.slot, f"cut short more than {hours} ago", "killed")
    return None


def _decide(
    entry: Entry,
    rows: Mapping[str, ScheduleRow],
    running: Mapping[str, Running],
    busy: set[str],
    waiting: Waiting,
    now: datetime,
    settings: ScheduleSettings,
) -> Action | None:
    """Start it, skip it, or let it wait (None)."""
    own = waiting.noticed[entry.name]
    patience = timedelta(hours=settings.wait_hours)
    waits = False
    for before in entry.after:
        run = running.get(before.entry)
        if before.tie is Tie.FINISHING:
            finishing = run is not None and run.steps_done > 0
            waits = waits or (finishing and now < own.since + patience)
            continue
        if run is not None or before.entry in busy or before.entry in waiting.noticed:
            # Of one that had to wait itself, its own time counts from its beginning.
            since = own.since if run is None else max(own.since, run.started)
            if now >= since + patience:
                hours = f"{settings.wait_hours:g}"
                return Skip(entry, own.slot, f"{before.entry} has not ended after {hours} hours")
            waits = True
        elif before.tie is Tie.SUCCEEDED:
            row = rows.get(before.entry)
            if row is not None and row.outcome in UNSUCCESSFUL:
                return Skip(entry, own.slot, f"{before.entry}: {row.reason or row.outcome}")
    return None if waits else Start(entry, own.slot, own.reason)
