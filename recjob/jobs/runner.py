"""Runs a job: locks, ledger, heartbeat, measured stages, and what becomes of its exceptions."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from recjob import logs
from recjob.errors import RecjobError, RefusedError, TemporaryError
from recjob.jobs.home import ARTIFACTS_FOLDER
from recjob.jobs.metrics import tell_metrics
from recjob.jobs.stages import (
    JobResult,
    SkippedResult,
    Stage,
    StageRecord,
    disk_errors_told,
    measured_stage,
)
from recjob.jobs.stopping import Stopping, stop_if_asked
from recjob.monitoring.definitions import (
    GPU_MEMORY_LIMIT,
    JOB_PEAK_GPU_MEMORY,
    JOB_PEAK_MEMORY,
    MEMORY_LIMIT,
)
from recjob.monitoring.limits import memory_limit_bytes
from recjob.monitoring.memory import MemoryMonitor, Peak
from recjob.monitoring.run_metrics import RunMetrics
from recjob.settings import Settings
from recjob.store.artifacts import ArtifactFolder
from recjob.store.database import Database, translated
from recjob.store.ledger import Lease, Locks, Resource
from recjob.store.publication import sweep_partitions

HEARTBEAT_SECONDS = 10.0
"""Often enough to see within a minute that a run has died, and nothing to the database."""
LONGEST_ERROR = 2000
"""Characters of an exception that the ledger keeps."""

_READS_SHOP = Locks(reads=frozenset({Resource.CATALOG, Resource.PEOPLE}))
JOB_LOCKS: Mapping[str, Locks] = {
    "import": Locks(writes=frozenset({Resource.CATALOG}), reads=frozenset({Resource.PEOPLE})),
    # It learns from pictures alone, so `forget` does not wait for it once it has read them.
    "train-autoencoder": Locks(reads=frozenset({Resource.CATALOG})),
    "train-teacher": _READS_SHOP,
    "distill": _READS_SHOP,
    "models-import": Locks(reads=frozenset({Resource.PEOPLE})),
    "compile": Locks(writes=frozenset({Resource.ENGINES}), reads=frozenset({Resource.PEOPLE})),
    "embed": Locks(
        writes=frozenset({Resource.EMBEDDINGS}),
        reads=frozenset({Resource.CATALOG, Resource.ENGINES, Resource.PEOPLE}),
    ),
    "nightly-recommend": Locks(
        writes=frozenset({Resource.PUBLICATION}),
        reads=frozenset({Resource.CATALOG, Resource.EMBEDDINGS, Resource.PEOPLE}),
    ),
    "evaluate": Locks(reads=frozenset({Resource.CATALOG, Resource.EMBEDDINGS, Resource.PEOPLE})),
    "compare": _READS_SHOP,
    "gate": Locks(reads=frozenset({Resource.CATALOG, Resource.ENGINES, Resource.PEOPLE})),
    "models-promote": Locks(reads=frozenset({Resource.PEOPLE})),
    "models-retire": Locks(),
    "models-rollback": Locks(reads=frozenset({Resource.PEOPLE})),
    "report": Locks(
        reads=frozenset(
            {Resource.CATALOG, Resource.EMBEDDINGS, Resource.PUBLICATION, Resource.PEOPLE}
        )
    ),
    "forget": Locks(
        writes=frozenset(
            {Resource.CATALOG, Resource.EMBEDDINGS, Resource.PUBLICATION, Resource.PEOPLE}
        )
    ),
    # Nobody compiles, embeds or goes by vectors while files of models are removed.
    "retention": Locks(
        writes=frozenset({Resource.ENGINES, Resource.EMBEDDINGS}),
        reads=frozenset({Resource.PEOPLE}),
    ),
}
"""What each job writes and reads. Artifacts of models need no lock: they never change, but for
the users' rows, which `forget` takes out."""

log = logging.getLogger(__name__)


R = TypeVar("R", bound=JobResult)


@dataclass(frozen=True)
class JobContext:
    """What a job works with."""

    settings: Settings
    database: Database
    artifacts: ArtifactFolder
    run_id: int
    lease: Lease
    monitor: MemoryMonitor
    stopping: Stopping
    metrics: RunMetrics
    peak: Peak
    """Memory of the whole run so far."""
    stages: list[StageRecord] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure the block as a stage of the job; a failed stage is recorded too."""
        self.check_lease()
        stop_if_asked()
        with measured_stage(name, self.monitor, self.stages) as stage:
            yield stage

    def freeze(self, **parameters: Any) -> None:
        """Add to the ledger what this run works on (model, engine, seed, ...)."""
        self.lease.freeze(parameters)

    @contextmanager
    def shard(self) -> Iterator[None]:
        """A part of the work that is kept once it is whole: SIGTERM waits for its end."""
        self.check_lease()
        with self.stopping.shard():
            yield

    def beat(self) -> None:
        """Tell the ledger that the run lives, and take its locks again after a lost connection.

        Raises TemporaryError while the database is away, and when the lease is lost.
        """
        mark = logs.current_mark()
        stage = None if mark is None else mark.stage
        self.lease.beat(self.stage_rows, self.metrics_so_far(), stage)

    def metrics_so_far(self) -> dict[str, Any]:
        """The metrics as the ledger keeps them, the memory up to now among them."""
        self.metrics.set(JOB_PEAK_MEMORY, self.peak.memory_bytes)
        if self.peak.gpu_memory_bytes is not None:
            self.metrics.set(JOB_PEAK_GPU_MEMORY, self.peak.gpu_memory_bytes)
        return self.metrics.as_json()

    def check_lease(self) -> None:
        """Raise TemporaryError where the run is known to have lost its lease."""
        self.lease.check()

    @property
    def stage_rows(self) -> list[dict[str, Any]]:
        """The finished stages as the ledger keeps them."""
        return [stage.model_dump() for stage in self.stages]


def run_job(
    name: str,
    database: Database,
    settings: Settings,
    body: Callable[[JobContext], R],
    parameters: Mapping[str, Any] | None = None,
) -> R:
    """Run `body` as the job `name` (a key of `JOB_LOCKS`) and return its result.

    Raises LockedError when another job is in its way, TemporaryError when the database or the disk
    is, and what the body raises. However it ends, the ledger says so.
    """
    start = time.monotonic()
    artifacts = ArtifactFolder(settings.home / ARTIFACTS_FOLDER, settings.artifacts_url)
    lease = Lease(database, name, JOB_LOCKS[name], parameters or {})
    stopping = Stopping(settings.nightly.stop_seconds)
    with logs.in_job(name, lease.run_id), MemoryMonitor() as monitor, monitor.measure() as peak:
        context = JobContext(
            settings=settings,
            database=database,
            artifacts=artifacts,
            run_id=lease.run_id,
            lease=lease,
            monitor=monitor,
            stopping=stopping,
            metrics=RunMetrics(settings.metrics.latency_buckets),
            peak=peak,
        )
        _note_limits(context)
        logs.adopt_libraries()
        log.info("started, pid %d on %s", os.getpid(), socket.gethostname())
        try:
            with stopping.listening(), _heartbeat(context), _our_errors(database, settings.home):
                sweep_partitions(database)
                context.artifacts.remove_unfinished()
                result = body(context)
                lease.check()
        except BaseException as error:
            _record_failure(context, error)
            raise
        counts = result.model_dump(mode="json", exclude=set(JobResult.model_fields))
        reason = result.skipped if isinstance(result, SkippedResult) else None
        outcome: Final = "done" if reason is None else "skipped"
        lease.end(outcome, counts, context.stage_rows, context.metrics_so_far(), reason)
        tell_metrics(settings, database, JOB_LOCKS)
        seconds = time.monotonic() - start
        log.info(
            "%s after %.1f s%s",
            outcome,
            seconds,
            "" if reason is None else f": {reason}",
            extra={logs.FIELDS: {"outcome": outcome, "seconds": seconds}},
        )
    return result.model_copy(
        update={"run_id": lease.run_id, "seconds": seconds, "stages": tuple(context.stages)}
    )


def _note_limits(context: JobContext) -> None:
    """How much memory the run may have, by which its peaks are judged."""
    context.metrics.set(MEMORY_LIMIT, memory_limit_bytes())
    gpu = context.monitor.largest_gpu_bytes
    if gpu is not None:
        context.metrics.set(GPU_MEMORY_LIMIT, gpu)


@contextmanager
def _heartbeat(context: JobContext) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                context.beat()
            except TemporaryError as error:
                log.warning("no heartbeat: %s", error)

    # In a copy of this context, so that its lines say which run they belong to.
    thread = threading.Thread(
        target=copy_context().run, args=(beat,), name="heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _our_errors(database: Database, home: Path) -> Iterator[None]:
    """Full disks and driver errors that passed the store's border as errors of the tree."""
    with disk_errors_told(home), translated(database.name):
        yield


def _record_failure(context: JobContext, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif isinstance(error, RecjobError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    outcome: Final = "refused" if isinstance(error, RefusedError) else "failed"
    log.info("%s: %s", outcome, text, extra={logs.FIELDS: {"outcome": outcome}})
    try:
        context.lease.end(
            outcome, {}, context.stage_rows, context.metrics_so_far(), text[:LONGEST_ERROR]
        )
    except (TemporaryError, psycopg.Error) as problem:
        log.warning("the ledger does not know yet that run %d failed: %s", context.run_id, problem)
    else:
        tell_metrics(context.settings, context.database, JOB_LOCKS)
