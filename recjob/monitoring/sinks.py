"""Where the figures go: an HTTP server, a file for node_exporter, a Pushgateway."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client import CollectorRegistry, Metric, generate_latest, start_http_server
from prometheus_client.exposition import basic_auth_handler, default_handler, push_to_gateway
from prometheus_client.registry import Collector

from recjob.errors import SettingsError, TemporaryError

LEDGER_GROUP: Final = "recjob"
"""Group of the Pushgateway for what is not about one of our jobs."""
SCHEDULER_GROUP: Final = "recjob-scheduler"
"""Its group for what only the scheduler knows."""
FILE_MODE: Final = 0o644
"""Of the textfile: node_exporter is another user."""
SHORTEST_WAIT_SECONDS: Final = 0.1
"""For the last of several pushes, where those before took all the time there was."""


class Families(Collector):
    """A collector of what is given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry of our own: nothing of the process or of other libraries is in it."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


@contextmanager
def serving(host: str, port: int, collector: Collector) -> Iterator[int]:
    """Serve `/metrics` in threads; the port, which is another where `port` is 0.

    Raises OSError where the address cannot be had.
    """
    server, thread = start_http_server(port, host, registry_of(collector))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_textfile(path: Path, families: Iterable[Metric]) -> None:
    """Write the file for node_exporter's textfile collector; it is replaced whole, or not at all.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another ending than .prom, so that nobody reads it before it is whole.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(generate_latest(registry_of(Families(families))))
        unfinished.chmod(FILE_MODE)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def push(
    url: str, families: Iterable[Metric], timeout_seconds: float, group: str = LEDGER_GROUP
) -> None:
    """Replace what the Pushgateway holds of us. `url` may hold a user and a password.

    The gateway puts a label `job` of its own on all that is pushed at once; so what has the label
    `job` is pushed job by job, and comes out as it would from the other sinks. The rest gets
    `group` for it.

    Raises TemporaryError where the gateway does not take it, SettingsError for a URL that is none.
    No message holds the password.
    """
    address, handler = _gateway(url)
    deadline = time.monotonic() + timeout_seconds
    for job, part in _by_job(families, group).items():
        remaining = max(deadline - time.monotonic(), SHORTEST_WAIT_SECONDS)
        try:
            push_to_gateway(
                address, job, registry_of(Families(part)), timeout=remaining, handler=handler
            )
        except OSError as error:
            raise TemporaryError(f"the Pushgateway {address} does not take them: {error}") from None


def _by_job(families: Iterable[Metric], group: str) -> Mapping[str, Sequence[Metric]]:
    """The families in parts whose samples have the same label `job`; without one it is `group`."""
    parts: dict[str, dict[str, Metric]] = {}
    for family in families:
        for sample in family.samples:
            part = parts.setdefault(sample.labels.get("job", group), {})
            if family.name not in part:
                part[family.name] = Metric(family.name, family.documentation, family.type)
            part[family.name].samples.append(sample)
    return {job: tuple(part.values()) for job, part in parts.items()}


def _gateway(url: str) -> tuple[str, Callable[..., Callable[[], None]]]:
    """The URL without user and password, and what speaks to it."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(url)
    except ValueError:
        raise SettingsError(
            "metrics.pushgateway is no URL of a Pushgateway; it looks like http://host:9091"
        ) from None
    address = urlunsplit((parts.scheme, f"{host}{port}", parts.path, "", ""))
    if parts.username is None:
        return address, default_handler
    secrets: dict[str, Any] = {
        "username": unquote(parts.username),
        "password": unquote(parts.password or ""),
    }
    return address, partial(basic_auth_handler, **secrets)
