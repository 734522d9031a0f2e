"""`python cli.py schedule` in a process of its own, and its `/metrics`."""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.system.commands import clean_environment, command_line, wait_for
from tests.system.prometheus_server import free_port

NOTHING_DUE: Final = {
    f"RECJOB_SCHEDULE__{entry}_CRON": ""
    for entry in ("IMPORT", "AUTOENCODER", "TEACHER", "STUDENT", "EMBED", "NIGHTLY", "RETENTION")
}
"""A scheduler that starts nothing by itself."""
ANSWER_SECONDS: Final = 20


@dataclass(frozen=True)
class SchedulerProcess:
    """A scheduler at work, or what it left."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def target(self) -> str:
        """Its address, as Prometheus takes it."""
        return f"127.0.0.1:{self.port}"

    def metrics(self) -> str:
        """What a scrape gets."""
        address = f"http://{self.target}/metrics"
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
            return bytes(answer.read()).decode()

    def answers(self) -> bool:
        """Whether `/metrics` is there."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.metrics())
        except urllib.error.URLError:
            return False


@contextmanager
def scheduler_process(
    folder: Path,
    variables: Mapping[str, str],
    changes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[SchedulerProcess]:
    """Start it in `folder`, where nothing is due but what `changes` say; stop it at the end."""
    port = free_port()
    environment = clean_environment(
        OMP_NUM_THREADS="1",
        OMP_WAIT_POLICY="PASSIVE",
        RECJOB_METRICS__PORT=str(port),
        **{**NOTHING_DUE, **variables, **changes},
    )
    path = folder / f"scheduler-{port}.log"
    with (
        path.open("wb") as log,
        subprocess.Popen(
            command_line("schedule"), cwd=folder, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        scheduler = SchedulerProcess(process, path, port)
        try:
            wait_for(scheduler.answers)
            yield scheduler
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
