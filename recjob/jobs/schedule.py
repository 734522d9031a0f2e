"""`schedule`: starts the jobs of the schedule, as a leader, or stands by until the leader is gone.

The lead is a session lock of Postgres: it ends with its holder's connection, whatever killed it.
All that has to outlive a scheduler is in the ledger, so whoever leads next goes on from there.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from sqlalchemy import Connection

from recjob.errors import TemporaryError
from recjob.jobs.metrics_server import serve_metrics
from recjob.jobs.schedule_due import UNSUCCESSFUL, Running, Skip, Start, Waiting, plan
from recjob.jobs.schedule_early import STUDENT, EarlyStudent
from recjob.jobs.schedule_entries import CommandBuilder, Entry, Tie, program, schedule_entries
from recjob.jobs.schedule_state import SERVICE_LOG, SchedulerState
from recjob.jobs.schedule_work import Control, EntryRun, Site
from recjob.jobs.start import prepare_home
from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.schedule_runs import (
    Leadership,
    ScheduleRow,
    candidacy,
    close_cut_short,
    finished_since,
    last_schedule_rows,
    record_without_run,
)

TICK_SECONDS: Final = 1.0
"""Jobs start so long after their time at most. A look costs the database two small queries."""

log = logging.getLogger(SERVICE_LOG)


def run_schedule(settings: Settings, settings_file: Path | None = None) -> None:
    """Serve the schedule until SIGTERM or Ctrl-C; then stop the running jobs and return.

    Raises SettingsError for a schedule that cannot be, and at the start what `open_database`
    raises. Later a database that is away is waited for.
    """
    entries = schedule_entries(settings)
    log.setLevel(logging.INFO)
    scheduler = Scheduler(settings, entries, program(settings_file))
    with _signals(scheduler.control):
        scheduler.serve()


class Scheduler:
    """The scheduler of one process; `command` makes processes of the entries' commands."""

    def __init__(
        self, settings: Settings, entries: Sequence[Entry], command: CommandBuilder
    ) -> None:
        self.control = Control()
        self.state = SchedulerState()
        self._settings = settings
        self._entries = entries
        self._command = command
        self._threads = ThreadPoolExecutor(max_workers=len(entries))
        self._runs: dict[str, tuple[EntryRun, Future[None]]] = {}
        self._waiting = Waiting()
        self._early = EarlyStudent(settings.retraining.early_change)

    def serve(self) -> None:
        """Lead or stand by until `control.stopping`."""
        prepare_home(self._settings.home)
        with open_database(self._settings) as database:
            site = Site(self._settings, database, self._command, self.control)
            self._tell(leader=False, now=datetime.now(UTC))
            with serve_metrics(self._settings, database, self.state):
                try:
                    self._serve(site)
                finally:
                    self.control.stopping = True
                    self._threads.shutdown()

    def _serve(self, site: Site) -> None:
        while not self.control.stopping:
            try:
                # Opened anew each time: that starts an embedded server that has died.
                with (
                    open_database(self._settings) as database,
                    candidacy(database) as leadership,
                ):
                    if self._stand_by(leadership):
                        self._lead(leadership, site)
            except TemporaryError as error:
                log.warning("no lead without the database: %s", error)
                self._tell(leader=False, now=datetime.now(UTC), database=False)
                self.control.pause(self._settings.schedule.standby_seconds)

    def _stand_by(self, leadership: Leadership) -> bool:
        """Wait for the lead; false where the scheduler was stopped before."""
        told = False
        while not leadership.acquire():
            self._tell(leader=False, now=leadership.now())
            if not told:
                log.info("another scheduler leads; standing by (pid %d)", os.getpid())
                told = True
            self.control.pause(self._settings.schedule.standby_seconds)
            if self.control.stopping:
                return False
        return True

    def _lead(self, leadership: Leadership, site: Site) -> None:
        """Start what is due, tick by tick. Raises TemporaryError once the lead is lost."""
        log.info("leading (pid %d)", os.getpid())
        self._waiting = Waiting()
        self._early = EarlyStudent(self._settings.retraining.early_change)
        self.control.leading = True
        try:
            while not self.control.stopping:
                now = leadership.now()
                self._tick(site, now)
                self._tell(leader=True, now=now)
                self.control.pause(TICK_SECONDS)
            # The lead is kept until the rows of what was running say how it ended.
            log.info("stopping")
            self._join()
        finally:
            self.control.leading = False

    def _tick(self, site: Site, now: datetime) -> None:
        # Before the rows are read: a run that ends in between still counts as running.
        for name, (_, ended) in list(self._runs.items()):
            if ended.done():
                del self._runs[name]
                ended.result()  # a fault of ours ends the scheduler
        running = {
            name: Running(run.started, run.steps_done) for name, (run, _) in self._runs.items()
        }
        with site.database.begin() as connection:
            rows = self._mended(connection, last_schedule_rows(connection))
            if STUDENT not in running:
                self._early.look(connection, self._entries, rows, self._waiting, now)
            actions = plan(
                self._entries, rows, running, self._waiting, now, self._settings.schedule
            )
            for action in actions:
                entry, slot = action.entry, action.slot
                close_cut_short(connection, entry.name, slot)
                if isinstance(action, Skip):
                    record_without_run(
                        connection, entry.name, slot, entry.identity, action.outcome, action.reason
                    )
                    log.info("%s of %s: %s", entry.name, f"{slot:%F %T}", action.reason)
        for action in actions:
            if isinstance(action, Start):
                self._start(action, site, now)

    def _start(self, action: Start, site: Site, now: datetime) -> None:
        run = EntryRun(action.entry, action.slot, site, action.reason, now)
        self._runs[action.entry.name] = (run, self._threads.submit(run))

    def _mended(
        self, connection: Connection, rows: Mapping[str, ScheduleRow]
    ) -> dict[str, ScheduleRow]:
        """A failure that others would be skipped for is none once somebody has run it by hand."""
        mended = dict(rows)
        needed = {
            before.entry
            for entry in self._entries
            for before in entry.after
            if before.tie is Tie.SUCCEEDED
        }
        for entry in self._entries:
            row = rows.get(entry.name)
            if entry.name in needed and row is not None and row.outcome in UNSUCCESSFUL:
                step = entry.steps[-1]
                run = finished_since(connection, step.job, row.slot, step.reads)
                if run is not None and run.outcome != "refused":
                    mended[entry.name] = replace(row, outcome="done")
        return mended

    def _tell(self, *, leader: bool, now: datetime, database: bool = True) -> None:
        moments = {
            entry.name: entry.cron.next(now) for entry in self._entries if entry.cron is not None
        }
        self.state.update(
            leader=leader,
            next_runs={name: moment for name, moment in moments.items() if moment is not None},
            database=database,
        )

    def _join(self) -> None:
        """Wait until the runs have stopped, which they do within `kill_seconds`."""
        wait([ended for _, ended in self._runs.values()])


@contextmanager
def _signals(control: Control) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the scheduler, as often as they come."""

    def stop(number: int, frame: FrameType | None) -> None:
        control.stopping = True

    before = {name: signal.signal(name, stop) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
