"""`doctor` on the way of the figures to Prometheus."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from recjob.jobs.diagnosis import Finding, failure, warning, well
from recjob.jobs.metrics import TEXTFILE_FOLDER
from recjob.settings import MetricsSettings, Settings

OUR_METRIC: Final = "recjob_build_info"
HTTP_SECONDS: Final = 5.0
EVERYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - asked whether it is that
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def sink(settings: Settings, scheduler_alive: bool) -> Finding:
    """Whether the figures get to where the settings send them."""
    options = settings.metrics
    if options.sink == "textfile":
        return _textfile(settings)
    if options.sink == "pushgateway":
        return _pushgateway(options)
    if options.sink == "scheduler":
        return _scheduler(options, scheduler_alive)
    return well("metrics.sink is none")


def _scheduler(options: MetricsSettings, alive: bool) -> Finding:
    if options.port == 0:
        return well("/metrics of the scheduler, on a port that its log names")
    host = "127.0.0.1" if options.host in EVERYWHERE else options.host
    url = f"http://{host}:{options.port}/metrics"
    try:
        with urlopen(url, timeout=HTTP_SECONDS) as answer:
            ours = OUR_METRIC in answer.read().decode("utf-8", "replace")
    except HTTPError as error:
        return failure(
            f"{url} answers with {error.code}", "is it another program's port? Set metrics.port"
        )
    except OSError as error:
        if alive:
            return warning(
                f"a scheduler is alive, and {url} does not answer here ({error})",
                "look whether it runs on another machine, or with another metrics.port",
            )
        return _free(options, url)
    if not ours:
        return failure(f"{url} is another program's", "set metrics.port")
    return well(f"{url} answers")


def _free(options: MetricsSettings, url: str) -> Finding:
    """Nobody answers: a scheduler could."""
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((options.host, options.port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        return failure(
            f"{options.host}:{options.port} cannot be listened on ({error.strerror})",
            "set metrics.port to a free one" if taken else "correct metrics.host and metrics.port",
        )
    return well(f"{url} is free; `schedule` serves it")


def _textfile(settings: Settings) -> Finding:
    folder = Path(settings.metrics.textfile_folder or settings.home / TEXTFILE_FOLDER).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return failure(
            f"{folder}: {there} is not ours to write to",
            "let the jobs' user write there, or set metrics.textfile_folder",
        )
    return well(f"{folder} is writable")


def _pushgateway(options: MetricsSettings) -> Finding:
    parts = urlsplit(options.pushgateway)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, DEFAULT_PORTS["http"])
    where = f"{parts.hostname}:{port}"  # never the password
    if parts.hostname is None:
        return failure("metrics.pushgateway is no URL", "write http://HOST:9091")
    try:
        socket.create_connection((parts.hostname, port), options.pushgateway_seconds).close()
    except OSError as error:
        return failure(
            f"no Pushgateway answers at {where} ({error})",
            "start it, or set metrics.pushgateway",
        )
    return well(f"{where} answers")
