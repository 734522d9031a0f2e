"""Waiting for a database that is away for a moment: restarted, failed over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from recjob.errors import TemporaryError
from recjob.jobs.runner import JobContext

RETRY_SECONDS: Final = 1.0
"""Often enough to go on within a moment, rarely enough not to be a load."""

T = TypeVar("T")
log = logging.getLogger(__name__)


def patiently(context: JobContext, step: Callable[[], T]) -> T:
    """`step()`, which is a transaction that a failure undoes; again while the database is away.

    Gives up after `nightly.database_wait_seconds`, and at once where the run lost its lease.
    """
    deadline = time.monotonic() + context.settings.nightly.database_wait_seconds
    while True:
        try:
            return step()
        except TemporaryError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("%s; trying again", error)
        time.sleep(RETRY_SECONDS)
        try:
            context.beat()  # takes the locks again, or finds that another job has them
        except TemporaryError:
            context.check_lease()
