"""Logs on standard error, as text or JSON: each line says when, how grave, who, and in which run.

A run and its stage are known in the thread that runs the job (`in_job`, `in_stage`) and in those
that copy its context. Lines of other threads (prefetching, decoding, libraries' own) belong to the
process's only job; while several run side by side they belong to none.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from recjob.errors import RecjobError
from recjob.settings import LoggingSettings

ERROR: Final = logging.ERROR
FIELDS: Final = "fields"
"""`log.info(..., extra={FIELDS: {...}})`: further keys of the line in JSON."""
URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s@]*@")
"""A user and password in a URL that a library put into its message."""
ROOT: Final = "recjob"

log = logging.getLogger(ROOT)


@dataclass
class Mark:
    """The job that lines belong to."""

    job: str | None
    run_id: int | None
    """None where a training runs without a database."""
    stages: list[str] = field(default_factory=list)
    """Those that it is in, the innermost last."""

    @property
    def stage(self) -> str | None:
        """The innermost stage; None between stages."""
        return self.stages[-1] if self.stages else None


_mark: ContextVar[Mark | None] = ContextVar("mark", default=None)
_running: list[Mark] = []
"""Of all jobs in this process."""
_running_guard = threading.Lock()
_failures: weakref.WeakKeyDictionary[RecjobError, Mark] = weakref.WeakKeyDictionary()
"""Where errors that are on their way to the command line came from."""


@contextmanager
def in_job(job: str | None, run_id: int | None) -> Iterator[Mark]:
    """Lines that are logged while the block runs belong to this run of a job."""
    mark = Mark(job, run_id)
    with _running_guard:
        _running.append(mark)
    token = _mark.set(mark)
    try:
        yield mark
    except RecjobError as error:
        _remember(error, mark)
        raise
    finally:
        _mark.reset(token)
        with _running_guard:
            _running.remove(mark)


@contextmanager
def in_stage(name: str) -> Iterator[None]:
    """Lines that are logged while the block runs belong to this stage of the running job."""
    mark = _mark.get()
    if mark is None:
        with in_job(None, None), in_stage(name):
            yield
        return
    mark.stages.append(name)
    try:
        yield
    except RecjobError as error:
        _remember(error, mark)
        raise
    finally:
        mark.stages.pop()


def _remember(error: RecjobError, mark: Mark) -> None:
    """The first to see it is the innermost."""
    if error not in _failures:
        _failures[error] = Mark(mark.job, mark.run_id, list(mark.stages))


def current_mark() -> Mark | None:
    """The job that a line logged here and now belongs to."""
    mark = _mark.get()
    if mark is None and len(_running) == 1:
        return _running[0]
    return mark


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER [JOB RUN, STAGE] message`; without a job there are no brackets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it where there is one."""
        mark = _mark_of(record)
        where = ""
        if mark is not None:
            words = [word for word in (mark.job, mark.run_id) if word is not None]
            parts = [" ".join(map(str, words)), mark.stage or ""]
            where = f" [{', '.join(part for part in parts if part)}]"
        line = (
            f"{_time(record, 'seconds')} {record.levelname} {record.name}{where}: "
            f"{record.getMessage()}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return masked(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: time, level, logger, run_id, job, stage, message, and what else is known."""
        mark = _mark_of(record)
        line: dict[str, Any] = {
            "time": _time(record, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run_id": None if mark is None else mark.run_id,
            "job": None if mark is None else mark.job,
            "stage": None if mark is None else mark.stage,
            "message": masked(record.getMessage()),
        }
        further: Mapping[str, Any] = getattr(record, FIELDS, {})
        line.update(further)
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


_FORMATTERS: Final[Mapping[str, type[logging.Formatter]]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def masked(text: str) -> str:
    """The text without the passwords of its URLs."""
    return URL_PASSWORD.sub(r"\1:***@", text)


def _mark_of(record: logging.LogRecord) -> Mark | None:
    given: Mark | None = getattr(record, "mark", None)
    return given or current_mark()


def _time(record: logging.LogRecord, digits: Literal["seconds", "milliseconds"]) -> str:
    """In UTC, as ISO 8601 has it."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec=digits)[:-6] + "Z"


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the moment: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class Logs:
    """The logs of this process; `standard_error_logs` makes them."""

    def __init__(self) -> None:
        self.handler = _StandardError()
        self._given: dict[str, str] = {}
        self.configure(LoggingSettings())

    def choose(self, **options: str | None) -> None:
        """`format` and `level` of the command line: they win over any settings."""
        self._given |= {name: value for name, value in options.items() if value is not None}
        self.configure(self.settings)

    def configure(self, settings: LoggingSettings) -> None:
        """Log as the settings say, where the command line says nothing."""
        self.settings = LoggingSettings.model_validate(settings.model_dump() | self._given)
        self.handler.setFormatter(_FORMATTERS[self.settings.format]())
        level = logging.getLevelNamesMapping()[self.settings.level.upper()]
        log.setLevel(level)
        # What libraries tell of their doings is for those who look for a fault; their own debug
        # lines for nobody, since they quote what they are given, URLs and headers with passwords.
        libraries = {logging.DEBUG: logging.INFO, logging.INFO: logging.WARNING}
        logging.getLogger().setLevel(libraries.get(level, level))


_logs: Logs | None = None


def is_json() -> bool:
    """Whether standard error holds JSON objects and nothing else."""
    return _logs is not None and _logs.settings.format == "json"


def chosen(settings: LoggingSettings) -> LoggingSettings:
    """How this process logs, for processes that it starts; `settings` where it does not."""
    return settings if _logs is None else _logs.settings


def configure(settings: LoggingSettings) -> None:
    """As `Logs.configure`, where this process logs to standard error."""
    if _logs is not None:
        _logs.configure(settings)


def choose(**options: str | None) -> None:
    """As `Logs.choose`, where this process logs to standard error."""
    if _logs is not None:
        _logs.choose(**options)


@contextmanager
def standard_error_logs() -> Iterator[Logs]:
    """Log to standard error while the block runs, Python's warnings too.

    In JSON an exception that nobody expected becomes a line, and the program's end with code 1.
    """
    global _logs
    root = logging.getLogger()
    outer, levels, told = _logs, (root.level, log.level), warnings.showwarning
    _logs = Logs()
    root.addHandler(_logs.handler)
    warnings.showwarning = _show_warning
    try:
        yield _logs
    except Exception as error:
        if not is_json():
            raise
        log.critical("%s: %s", type(error).__name__, error, exc_info=True)
        raise SystemExit(RecjobError.exit_code) from None
    finally:
        warnings.showwarning = told
        root.removeHandler(_logs.handler)
        root.setLevel(levels[0])
        log.setLevel(levels[1])
        _logs = outer


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of Python's as one line of the log."""
    text = " ".join(str(message).split())
    logging.getLogger("py.warnings").warning(
        "%s: %s (%s, line %d)", category.__name__, text, filename, lineno
    )


def tell_error(error: RecjobError) -> None:
    """The last word of a command that failed: `error: ...`, or a record in JSON."""
    if not is_json():
        sys.stderr.write(f"error: {masked(str(error))}\n")
        return
    log.error(
        "%s",
        error,
        extra={
            "mark": _failures.get(error),
            FIELDS: {"error": type(error).__name__, "exit_code": error.exit_code},
        },
    )


def say(text: str, level: int = logging.INFO) -> None:
    """How it goes, for people: a line on standard error; in JSON a record of this level."""
    if is_json():
        log.log(level, "%s", text)
        return
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def adopt_libraries() -> None:
    """Let lines of libraries that brought handlers of their own (torch, Ray) look like ours.

    They install them when they are loaded, so this is called again when a job and a stage begin.
    """
    if _logs is None:
        return
    for logger in list(logging.root.manager.loggerDict.values()):
        if not isinstance(logger, logging.Logger) or logger.propagate:
            continue
        for handler in list(logger.handlers):
            if getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__):
                logger.removeHandler(handler)
                logger.propagate = True
