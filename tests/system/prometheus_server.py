"""A real Prometheus with the configuration and rules of deploy/, on a test's clock.

What is changed: targets and ports; how often it scrapes and evaluates; and alerts fire without the
waiting of their `for`, which promtool's tests hold. Expressions stay as they are.
"""

from __future__ import annotations

import json
import math
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.monitoring_files import PROMETHEUS, RULES, read_yaml
from tests.programs import installed
from tests.system.commands import PATIENCE_SECONDS, wait_for

SCRAPE_SECONDS: Final = 2
EVALUATION_SECONDS: Final = 1
ANSWER_SECONDS: Final = 30
FOLDER: Final = "prometheus"


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    """A server at work."""

    url: str

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """The instant vector at a time, None: now; an AssertionError says what is wrong with it."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self.get("query", query=expression, **moment)
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        assert found["resultType"] == "vector", f"{expression}: {found['resultType']}"
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    def values(self, expression: str, at: float | None = None) -> list[float]:
        """The numbers of an expression without those that are none."""
        return [one.value for one in self.query(expression, at) if not math.isnan(one.value)]

    def firing(self, alert: str) -> list[dict[str, str]]:
        """Labels of an alert's instances that fire."""
        return [
            found["labels"]
            for found in self.get("alerts")["alerts"]
            if found["state"] == "firing" and found["labels"]["alertname"] == alert
        ]

    def wait_for_alert(self, alert: str, **labels: str) -> None:
        """Wait until it fires with these labels, once."""

        def fires() -> bool:
            found = [one for one in self.firing(alert) if labels.items() <= one.items()]
            assert len(found) <= 1, found
            return len(found) == 1

        wait_for(fires)

    def wait_for_silence(self, alert: str) -> None:
        """Wait until it no longer fires."""
        wait_for(lambda: not self.firing(alert))

    def get(self, what: str, **parameters: str) -> Any:
        """An answer of the API."""
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            body = json.load(error)
        assert body["status"] == "success", f"{parameters}: {body}"
        return body["data"]


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def prometheus_server(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Start it with our rules; `targets`: addresses by the `job_name` of the configuration."""
    program = installed("prometheus", "prometheus")
    place, port = folder / FOLDER, free_port()
    place.mkdir()
    configuration = _write_configuration(place, targets)
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={place / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        server = Prometheus(f"http://127.0.0.1:{port}")
        try:
            _wait_until_ready(server, process, place / "log")
            yield server
        finally:
            process.kill()


def _write_configuration(place: Path, targets: Mapping[str, Sequence[str]]) -> Path:
    configuration = read_yaml(PROMETHEUS)
    configuration["global"] = {
        "scrape_interval": f"{SCRAPE_SECONDS}s",
        "scrape_timeout": f"{SCRAPE_SECONDS}s",
        "evaluation_interval": f"{EVALUATION_SECONDS}s",
    }
    jobs = [job for job in configuration["scrape_configs"] if job["job_name"] in targets]
    assert len(jobs) == len(targets)
    for job in jobs:
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    configuration["scrape_configs"] = jobs
    (place / RULES.name).mkdir()
    for file in RULES.glob("*.yml"):
        rules = read_yaml(file)
        for group in rules["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                rule.pop("for", None)
        (place / RULES.name / file.name).write_text(yaml.safe_dump(rules))
    path = place / PROMETHEUS.name
    path.write_text(yaml.safe_dump(configuration))
    return path


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(f"{server.url}/-/ready", timeout=ANSWER_SECONDS):
                return
        except OSError:
            time.sleep(0.1)
