"""The scheduler's figures where `metrics.sink` is a textfile or a Pushgateway.

Jobs tell such a sink when they end. A scheduler that does not begin one any more, or a job that was
killed, would never be heard of; so the one that leads tells, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from recjob.jobs.metrics import tell_ledger, tell_scheduler
from recjob.jobs.schedule_state import SchedulerState
from recjob.monitoring.families import SchedulerFigures, scheduler_families
from recjob.settings import Settings
from recjob.store.database import Database

TELL_SECONDS: Final = 15.0
"""Between two words of the scheduler: as often as Prometheus would ask it."""
STOP_SECONDS: Final = 5.0
"""Longest wait at the end for a sink that hangs."""

log = logging.getLogger(__name__)


@contextmanager
def telling(
    settings: Settings, database: Database, state: SchedulerState, jobs: Iterable[str]
) -> Iterator[None]:
    """Tell the sink every `TELL_SECONDS`, in a thread. A sink that is away is a warning, once."""
    teller = _Teller(settings, database, state, jobs)
    stop = threading.Event()

    def tell_on() -> None:
        while True:
            teller.tell()
            if stop.wait(TELL_SECONDS):
                return

    thread = threading.Thread(target=tell_on, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


class _Teller:
    def __init__(
        self, settings: Settings, database: Database, state: SchedulerState, jobs: Iterable[str]
    ) -> None:
        self._settings = settings
        self._database = database
        self._state = state
        self._jobs = tuple(jobs)
        self._away = False

    def tell(self) -> None:
        """The scheduler's figures and the ledger's.

        One that stands by says nothing: in a Pushgateway its word would replace the leader's.
        Without the database nobody leads, and all say the same.
        """
        tick = self._state.tick
        if tick.database and not tick.leader:
            return
        scheduler = SchedulerFigures(tick.leader, tick.last_tick, tick.next_runs)
        try:
            families = scheduler_families(scheduler, database_up=tick.database)
            tell_scheduler(self._settings, families)
            if tick.database:
                tell_ledger(self._settings, self._database, self._jobs)
        except Exception as error:  # noqa: BLE001 - the schedule goes on
            if not self._away:
                sink = self._settings.metrics.sink
                log.warning("the scheduler's metrics are not in the %s: %s", sink, error)
            self._away = True
        else:
            if self._away:
                log.info("the scheduler's metrics are told again")
            self._away = False
