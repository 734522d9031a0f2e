"""The figures for Prometheus: read anew at each scrape, or told to a sink after each job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from prometheus_client import Metric

from recjob.monitoring.families import build_families, snapshot_families
from recjob.monitoring.sinks import LEDGER_GROUP, SCHEDULER_GROUP, push, write_textfile
from recjob.monitoring.snapshot import CatalogFigures, MetricsSnapshot
from recjob.settings import Settings
from recjob.store.database import Database
from recjob.store.metrics import CatalogMark, catalog_mark, hold_sink, read_snapshot

TEXTFILE_FOLDER: Final = "metrics"
TEXTFILE: Final = "recjob.prom"
SCHEDULER_TEXTFILE: Final = "recjob-scheduler.prom"
"""Beside that of the ledger's figures, which jobs replace."""
CACHE_SECONDS: Final = 3.0
"""So long an answer serves for all who ask: two Prometheus servers read the ledger once."""
ANSWER_SECONDS: Final = 6.0
"""Longest wait for the database in a scrape, which Prometheus gives up after ten."""
CATALOG_SECONDS: Final = 600.0
"""So long the items' number is believed where no import came, which counting reads all of."""

log = logging.getLogger(__name__)


def tell_metrics(settings: Settings, database: Database, jobs: Iterable[str]) -> None:
    """Give the sink of the settings the figures of now; the scheduler reads them by itself.

    What goes wrong is a warning: a job that has done its work does not fail for that.
    """
    if settings.metrics.sink in ("scheduler", "none"):
        return
    try:
        tell_ledger(settings, database, jobs)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job's work is done
        log.warning("the metrics are not in the %s: %s", settings.metrics.sink, error)


def tell_ledger(settings: Settings, database: Database, jobs: Iterable[str]) -> None:
    """Replace the ledger's figures in a textfile or a Pushgateway.

    Raises what the database, the disk or the Pushgateway does.
    """
    with database.begin() as connection:
        # Held until all is written: what another job reads earlier is not written later.
        hold_sink(connection)
        families = [*build_families(), *snapshot_families(read_snapshot(connection, jobs))]
        _write(settings, families, TEXTFILE, LEDGER_GROUP)


def tell_scheduler(settings: Settings, families: Iterable[Metric]) -> None:
    """Replace the scheduler's own figures there. Raises what the disk or the Pushgateway does."""
    _write(settings, families, SCHEDULER_TEXTFILE, SCHEDULER_GROUP)


def _write(settings: Settings, families: Iterable[Metric], file: str, group: str) -> None:
    options = settings.metrics
    if options.sink == "textfile":
        folder = options.textfile_folder or settings.home / TEXTFILE_FOLDER
        write_textfile(Path(folder) / file, families)
    else:
        push(options.pushgateway, families, options.pushgateway_seconds, group)


class SnapshotReader:
    """Reads snapshots for those who scrape; safe to use from several threads.

    A database that hangs holds up one thread, and no scrape longer than `ANSWER_SECONDS`.
    """

    def __init__(self, database: Database, jobs: Iterable[str]) -> None:
        self._database = database
        self._jobs = tuple(jobs)
        self._guard = threading.Lock()
        self._answer: Future[MetricsSnapshot | None] | None = None
        self._asked = 0.0
        self._away = False
        self._catalog: CatalogFigures | None = None
        self._mark: CatalogMark = None
        self._counted = 0.0

    def read(self) -> MetricsSnapshot | None:
        """What the database says, `CACHE_SECONDS` old at most; None where it does not answer."""
        with self._guard:
            now = time.monotonic()
            if self._answer is None or (self._answer.done() and now - self._asked > CACHE_SECONDS):
                self._answer, self._asked = Future(), now
                threading.Thread(
                    target=self._ask, args=(self._answer,), name="metrics", daemon=True
                ).start()
            answer = self._answer
        try:
            return answer.result(ANSWER_SECONDS)
        except TimeoutError:
            self._tell(f"no answer in {ANSWER_SECONDS:g} s")
            return None

    def _ask(self, answer: Future[MetricsSnapshot | None]) -> None:
        try:
            with self._database.connect() as connection:
                mark = catalog_mark(connection)
                known = self._catalog if mark == self._mark else None
                if time.monotonic() - self._counted > CATALOG_SECONDS:
                    known = None
                snapshot = read_snapshot(connection, self._jobs, known)
        except Exception as error:  # noqa: BLE001 - the scheduler's own figures are served
            self._tell(str(error))
            answer.set_result(None)
            return
        if known is None:
            self._catalog, self._mark, self._counted = snapshot.catalog, mark, time.monotonic()
        self._tell(None)
        answer.set_result(snapshot)

    def _tell(self, problem: str | None) -> None:
        """Log that the database went away, or came back; once."""
        if problem is not None and not self._away:
            log.warning("metrics without the database: %s", problem)
        elif problem is None and self._away:
            log.info("metrics with the database again")
        self._away = problem is not None
