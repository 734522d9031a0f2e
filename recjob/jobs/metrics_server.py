"""`/metrics` of the scheduler: the ledger's figures, and its own."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from prometheus_client import Metric
from prometheus_client.registry import Collector

from recjob.errors import SettingsError
from recjob.jobs.metrics import SnapshotReader
from recjob.jobs.metrics_teller import telling
from recjob.jobs.runner import JOB_LOCKS
from recjob.jobs.schedule_state import SchedulerState
from recjob.monitoring.families import (
    SchedulerFigures,
    build_families,
    scheduler_families,
    snapshot_families,
)
from recjob.monitoring.sinks import serving
from recjob.settings import Settings
from recjob.store.database import Database

RETRY_SECONDS: Final = 5.0
"""How often a port that somebody else has is asked for again."""

log = logging.getLogger(__name__)


class SchedulerCollector(Collector):
    """What a scrape of the scheduler gets. Without the database: what the scheduler knows."""

    def __init__(self, reader: SnapshotReader, state: SchedulerState) -> None:
        self._reader = reader
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """All families of now."""
        snapshot, tick = self._reader.read(), self._state.tick
        scheduler = SchedulerFigures(tick.leader, tick.last_tick, tick.next_runs)
        yield from build_families()
        yield from scheduler_families(scheduler, database_up=snapshot is not None)
        if snapshot is not None:
            yield from snapshot_families(snapshot)


@contextmanager
def serve_metrics(settings: Settings, database: Database, state: SchedulerState) -> Iterator[None]:
    """Serve `/metrics` where `metrics.sink` is the scheduler; tell another sink regularly.

    Where the port is taken (another scheduler on this machine may have it), it is asked for again
    until it is free. Raises SettingsError for an address that is none of this machine's.
    """
    options = settings.metrics
    if options.sink == "none":
        yield
        return
    if options.sink != "scheduler":
        with telling(settings, database, state, JOB_LOCKS):
            yield
        return
    collector = SchedulerCollector(SnapshotReader(database, JOB_LOCKS), state)
    stop = threading.Event()

    def start(servers: ExitStack) -> bool:
        try:
            port = servers.enter_context(serving(options.host, options.port, collector))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SettingsError(
                f"metrics.host {options.host!r}, metrics.port {options.port}: "
                f"{error.strerror or error}; set an address of this machine"
            ) from None
        log.info("metrics on http://%s:%d/metrics", options.host, port)
        return True

    def start_later(servers: ExitStack) -> None:
        while not stop.wait(RETRY_SECONDS):
            try:
                if start(servers):
                    return
            except SettingsError as error:
                log.warning("no metrics: %s", error)
                return

    with ExitStack() as servers:
        waiting = None
        if not start(servers):
            log.warning(
                "metrics.port %d of %s is taken; metrics are served when it is free",
                options.port,
                options.host,
            )
            waiting = threading.Thread(target=start_later, args=(servers,), daemon=True)
            waiting.start()
        try:
            yield
        finally:
            stop.set()
            if waiting is not None:
                waiting.join()
