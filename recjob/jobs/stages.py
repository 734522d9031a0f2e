"""What jobs and training without a database share: measured stages, results, full disks."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recjob import logs
from recjob.errors import TemporaryError, UserError
from recjob.monitoring.memory import MemoryMonitor

FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
"""Of a file that is named: somebody else's, on a read-only disk, or with a file as its folder."""

log = logging.getLogger(__name__)


class StageRecord(BaseModel):
    """What a stage of a job took."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: float
    items: int
    """How many of the stage's things it handled; 0 where it counts nothing."""
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None


class JobResult(BaseModel):
    """What a job returns: its own fields are the counts of the ledger."""

    model_config = ConfigDict(frozen=True)

    run_id: int = 0
    """Given by the runner, as is all that follows."""
    seconds: float = 0.0
    stages: tuple[StageRecord, ...] = ()


class SkippedResult(JobResult):
    """A job that had nothing to do: the ledger says so, and the command ends with 0."""

    skipped: str
    """Why."""


@dataclass
class Stage:
    """A stage at work; set `items` to what it handled."""

    name: str
    items: int = 0


@contextmanager
def measured_stage(
    name: str, monitor: MemoryMonitor, records: list[StageRecord]
) -> Iterator[Stage]:
    """Measure the block and add its record; a failed stage is recorded and logged too."""
    logs.adopt_libraries()
    stage = Stage(name)
    start = time.monotonic()
    with logs.in_stage(name):
        try:
            with monitor.measure() as peak:
                yield stage
        finally:
            record = StageRecord(
                name=name,
                seconds=time.monotonic() - start,
                items=stage.items,
                peak_memory_bytes=peak.memory_bytes,
                peak_gpu_memory_bytes=peak.gpu_memory_bytes,
            )
            records.append(record)
            log.info(
                "%.1f s, %d items, %d MiB at most",
                record.seconds,
                record.items,
                record.peak_memory_bytes // 2**20,
                extra={logs.FIELDS: record.model_dump(exclude={"name"})},
            )


@contextmanager
def disk_errors_told(home: Path) -> Iterator[None]:
    """A full disk, and a file that may not be used, as errors of the tree.

    `home` is named where the system names no file.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or home
        if error.errno in FULL:
            raise TemporaryError(
                f"{where}: no space left on the disk; make room and retry"
            ) from error
        if error.errno in UNUSABLE and error.filename:
            raise UserError(
                f"{where}: {error.strerror}; run as its owner, or work in another folder"
            ) from error
        raise
