"""One run of an entry of the schedule: its commands one after the other, with retries."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recjob.errors import LockedError, RecjobError, RefusedError, TemporaryError, UserError
from recjob.jobs.home import LOGS_FOLDER
from recjob.jobs.schedule_due import STOPPED
from recjob.jobs.schedule_entries import SECONDS_PER_HOUR, CommandBuilder, Entry, Step
from recjob.jobs.schedule_process import POLL_SECONDS, Cut, Outcome, run_command
from recjob.jobs.schedule_state import SERVICE_LOG
from recjob.settings import Settings
from recjob.store.database import Database
from recjob.store.schedule_runs import (
    Ended,
    FinishedRun,
    begin_schedule_run,
    counts_from,
    end_schedule_run,
    finished_since,
    note_attempt,
    runs_now,
)

SLOT_NAME: Final = "%Y%m%dT%H%M%SZ"
INTERRUPTED: Final = 130
"""Exit code of a job that somebody stopped with SIGTERM or Ctrl-C."""
RETRIED: Final = (RecjobError.exit_code, TemporaryError.exit_code, INTERRUPTED)
"""Exit codes that another attempt may mend, beside a signal; a lock is waited for instead."""
LONGEST_LOCK_PAUSE_SECONDS: Final = 300.0
"""A lock may come free at any time, so the pauses before looking again do not grow for ever."""
WATCH_SECONDS: Final = 1.0
"""How often a run of the same job that somebody else started is looked at. Its end is waited for
before ours is started: else ours would begin while it ends, and do all of it once more."""
GATE: Final = "gate"
"""The one job whose refusal is a result: the same candidate would be refused again."""

log = logging.getLogger(SERVICE_LOG)


class Control:
    """What the scheduler tells its runs; plain flags, since a signal handler sets one."""

    def __init__(self) -> None:
        self.stopping = False
        """The scheduler ends: commands get SIGTERM."""
        self.leading = False
        """Only a leader starts commands; those that run go on without."""

    def pause(self, seconds: float) -> None:
        """Sleep, at most until the scheduler ends."""
        end = time.monotonic() + seconds
        while not self.stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))


@dataclass(frozen=True)
class Site:
    """What all runs share."""

    settings: Settings
    database: Database
    command: CommandBuilder
    control: Control


class _Patience:
    """How long somebody who has the locks is waited for, from the first time that one is met."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._first: float | None = None

    def is_over(self) -> bool:
        """Whether that time has passed; the first call begins it."""
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        return now - self._first >= self._seconds


@dataclass(frozen=True)
class _Result:
    outcome: Ended
    reason: str | None = None


class EntryRun:
    """A run of `entry` for the time `slot`; call it once, in a thread of its own."""

    def __init__(
        self, entry: Entry, slot: datetime, site: Site, reason: str | None, started: datetime
    ) -> None:
        self.entry = entry
        self.slot = slot
        self.started = started
        """When this scheduler began or took it up, by the database's clock."""
        self.steps_done = 0
        self._site = site
        self._schedule = site.settings.schedule
        self._reason = reason
        self._left_seconds = entry.limit_seconds
        self._attempts = 0

    def __call__(self) -> None:
        """Run it and write how it ended.

        Where the lead or the database is lost meanwhile, its row is left as it is: whoever leads
        next takes it up, and what has ended well by then is not done again.
        """
        name, slot = self.entry.name, self.slot
        try:
            with self._site.database.begin() as connection:
                self._attempts = begin_schedule_run(
                    connection, name, slot, self.entry.identity, self._reason
                )
                before = [first.entry for first in self.entry.after]
                since = counts_from(connection, name, slot, before)
            log.info("%s of %s begins", name, f"{slot:%F %T}")
            result = self._run(since)
            if result is None:
                log.warning("%s of %s is left to whoever leads next", name, f"{slot:%F %T}")
                return
            with self._site.database.begin() as connection:
                end_schedule_run(connection, name, slot, result.outcome, result.reason)
        except TemporaryError as error:
            log.warning("%s of %s is left to whoever leads next: %s", name, f"{slot:%F %T}", error)
            return
        level = logging.INFO if result.outcome in ("done", "skipped") else logging.ERROR
        log.log(
            level,
            "%s of %s: %s%s",
            *(name, f"{slot:%F %T}", result.outcome),
            f" ({result.reason})" if result.reason else "",
        )

    def _run(self, since: datetime) -> _Result | None:
        """All steps; None where another scheduler shall go on."""
        before = self._attempts
        finished: list[FinishedRun | None] = []
        for step in self.entry.steps:
            result = self._step(step, since)
            if not isinstance(result, FinishedRun | Done):
                return result
            run = result if isinstance(result, FinishedRun) else None
            if run is not None:
                since = run.started
                if run.outcome == "refused":
                    return _Result("refused", f"{step.job}: {run.error}")
            finished.append(run)
            self.steps_done += 1
        runs = [run for run in finished if run is not None]
        if self._attempts == before == 0:
            numbers = ", ".join(str(run.run_id) for run in runs)
            return _Result("skipped", f"somebody has run it since then: run {numbers}")
        reasons = [run.error for run in runs if run.outcome == "skipped" and run.error]
        idle = bool(finished) and all(run and run.outcome == "skipped" for run in finished)
        return _Result("skipped" if idle else "done", "; ".join(reasons) or None)

    def _step(self, step: Step, since: datetime) -> FinishedRun | Done | _Result | None:
        """One command, as often as it takes."""
        control, schedule = self._site.control, self._schedule
        retries = 0
        pause = schedule.backoff_seconds
        patience = _Patience(schedule.wait_hours * SECONDS_PER_HOUR)
        while True:
            if (run := self._finished(step, since)) is not None:
                return run
            if control.stopping and control.leading:
                return _Result("killed", STOPPED)
            if not control.leading:
                return None
            if (runner := self._runner(step)) is not None:
                if patience.is_over():
                    return _Result("failed", f"{step.job} runs for too long already ({runner})")
                control.pause(WATCH_SECONDS)
                continue
            outcome = self._attempt(step)
            if outcome.code == 0:
                self._left_seconds -= outcome.seconds
                return self._finished(step, since) or Done()
            if outcome.cut is Cut.STOPPED:
                return _Result("killed", STOPPED) if control.leading else None
            if not control.leading:
                return None
            if outcome.cut is Cut.LIMIT:
                hours = self.entry.limit_seconds / SECONDS_PER_HOUR
                return _Result("failed", f"{step.job} was stopped: {hours:g} hours were over")
            what = f"{step.job} ended with {_code(outcome.code)}: {outcome.last_line}"
            if outcome.code == LockedError.exit_code:
                if patience.is_over():
                    return _Result("failed", f"{what}, for {schedule.wait_hours:g} hours")
                pause = min(pause, LONGEST_LOCK_PAUSE_SECONDS)
            elif outcome.code == RefusedError.exit_code:
                return _Result("refused", f"{step.job}: {outcome.last_line}")
            elif not _may_mend(step, outcome.code) or retries == schedule.retries:
                return _Result("failed", what)
            else:
                retries += 1
            log.warning("%s; again in %.0f s", what, pause)
            control.pause(pause)
            pause *= schedule.backoff_factor

    def _finished(self, step: Step, since: datetime) -> FinishedRun | None:
        """The run of this step that the ledger has since then, whoever started it."""
        with self._site.database.connect() as connection:
            run = finished_since(connection, step.job, since, step.reads)
        if run is not None and run.outcome == "refused" and step.job != GATE:
            return None
        return run

    def _runner(self, step: Step) -> str | None:
        """Who runs this job now: a person, or the job of a scheduler that died."""
        with self._site.database.connect() as connection:
            return runs_now(connection, step.job)

    def _attempt(self, step: Step) -> Outcome:
        self._attempts += 1
        path = log_file(self._site.settings.home, self.entry.name, self.slot, self._attempts)
        with self._site.database.begin() as connection:
            note_attempt(connection, self.entry.name, self.slot, path)
        try:
            return run_command(
                self._site.command(step.arguments),
                path,
                self._left_seconds,
                self._schedule.kill_seconds,
                lambda: self._site.control.stopping,
            )
        except OSError as error:  # a full disk, no more processes: worth a retry
            return Outcome(TemporaryError.exit_code, None, 0.0, f"it was not started: {error}")


class Done:
    """A command that ended well and has no row in the ledger."""


def log_file(home: Path, entry: str, slot: datetime, attempt: int) -> Path:
    """Where the output of an attempt goes."""
    name = f"{slot.astimezone(UTC).strftime(SLOT_NAME)}-{attempt}.log"
    return home / LOGS_FOLDER / entry / name


def _may_mend(step: Step, code: int) -> bool:
    """Whether another attempt may end otherwise."""
    if code == UserError.exit_code and step.reads:
        return True  # the shop's export may be late, or be written just now
    return code < 0 or code in RETRIED


def _code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
