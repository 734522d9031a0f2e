"""Lines of the log: complete, one each, and of the right run."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recjob import logs
from recjob.errors import TemporaryError
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.settings import LoggingSettings, Settings
from recjob.store.database import Database
from tests.command_line import Run

ROOT = Path(__file__).resolve().parents[1]
INFO_JSON = LoggingSettings(format="json", level="info")
Lines = Callable[[], list[dict[str, Any]]]

log = logging.getLogger("recjob.test")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What standard error got since the last call, which must be JSON objects alone."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def in_thread(body: Callable[[], object]) -> None:
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def marks(found: list[dict[str, Any]]) -> list[tuple[int | None, str | None, str | None]]:
    return [(line["run_id"], line["job"], line["stage"]) for line in found]


def test_a_json_line_has_everything(lines: Lines) -> None:
    with logs.standard_error_logs() as ours, logs.in_job("embed", 7), logs.in_stage("items"):
        ours.configure(INFO_JSON)
        log.info("%d of\n%s", 3, "“vier”", extra={logs.FIELDS: {"items": 3}})
        log.debug("nobody asked")
    [line] = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "recjob.test",
        "run_id": 7,
        "job": "embed",
        "stage": "items",
        "message": "3 of\n“vier”",
        "items": 3,
    }


def test_a_text_line_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.standard_error_logs():
        log.warning("before")
        with logs.in_job("embed", 7):
            log.warning("between")
            with logs.in_stage("items"):
                log.warning("within")
        with logs.in_job(None, None), logs.in_stage("read"):
            log.warning("no job")
    found = capsys.readouterr().err.splitlines()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    for line, rest in zip(
        found,
        (": before", " [embed 7]: between", " [embed 7, items]: within", " [read]: no job"),
        strict=True,
    ):
        assert re.fullmatch(f"{time} WARNING recjob.test{re.escape(rest)}", line)


def test_exceptions_and_warnings_are_one_json_line_each(lines: Lines) -> None:
    with logs.standard_error_logs() as ours, warnings.catch_warnings():
        ours.configure(INFO_JSON)
        warnings.simplefilter("always")
        warnings.warn("two\nlines", UserWarning, stacklevel=1)
        try:
            raise KeyError("x")
        except KeyError:
            log.exception("it broke")
    warned, broke = lines()
    assert warned["logger"] == "py.warnings"
    assert warned["message"].startswith("UserWarning: two lines (")
    assert "Traceback" in broke["exception"]
    assert "KeyError: 'x'" in broke["exception"]


def test_what_nobody_expected_is_a_json_line_and_code_1(lines: Lines) -> None:
    def fail(settings: LoggingSettings) -> None:
        with logs.standard_error_logs() as ours:
            ours.configure(settings)
            raise ZeroDivisionError("no users")

    with pytest.raises(SystemExit) as end:
        fail(INFO_JSON)
    assert end.value.code == 1
    [line] = lines()
    assert (line["level"], line["message"]) == ("critical", "ZeroDivisionError: no users")
    assert "Traceback" in line["exception"]
    with pytest.raises(ZeroDivisionError):
        fail(LoggingSettings())


def test_everything_is_as_before_after_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.level, logs.log.level, list(root.handlers), warnings.showwarning
    with logs.standard_error_logs() as ours:
        ours.configure(INFO_JSON)
        assert logs.is_json()
    after = root.level, logs.log.level, root.handlers, warnings.showwarning
    assert after == before
    assert not logs.is_json()
    log.error("nobody listens")
    assert capsys.readouterr().err == ""


def test_passwords_in_urls_are_left_out(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://nightly:s3cr/et@db.example:5432/shop"
    with logs.standard_error_logs() as ours:
        ours.configure(INFO_JSON)
        try:
            raise ValueError(url)
        except ValueError:
            log.exception("not %s", url)
        [line] = lines()
        ours.configure(LoggingSettings())
        log.warning("%s", url)
        logs.tell_error(TemporaryError(url))
    shown = json.dumps(line) + capsys.readouterr().err
    assert "s3cr" not in shown
    assert shown.count("postgresql://nightly:***@db.example:5432/shop") == 4


def test_the_command_line_wins_over_settings() -> None:
    with logs.standard_error_logs() as ours:
        logs.choose(format="json", level=None)
        logs.configure(LoggingSettings(format="text", level="debug"))
        assert ours.settings == LoggingSettings(format="json", level="debug")
        logs.choose(level="error")
        assert ours.settings == LoggingSettings(format="json", level="error")


def test_threads_that_know_of_no_job_belong_to_the_only_one(lines: Lines) -> None:
    with logs.standard_error_logs() as ours:
        ours.configure(INFO_JSON)
        with logs.in_job("embed", 7), logs.in_stage("items"):
            in_thread(lambda: log.info("decoding"))
            assert marks(lines()) == [(7, "embed", "items")]
            with logs.in_job("evaluate", 8):
                in_thread(lambda: log.info("whose?"))
                log.info("mine")
            assert marks(lines()) == [(None, None, None), (8, "evaluate", None)]
            log.info("again")
        in_thread(lambda: log.info("later"))
        assert marks(lines()) == [(7, "embed", "items"), (None, None, None)]


def test_libraries_with_handlers_of_their_own(lines: Lines) -> None:
    library = logging.getLogger("a_library")
    library.propagate = False
    quiet = logging.getLogger("a_quiet_library")
    quiet.propagate = False
    kept = logging.NullHandler()
    quiet.addHandler(kept)
    with logs.standard_error_logs() as ours:
        ours.configure(INFO_JSON)
        library.addHandler(logging.StreamHandler(sys.stderr))
        logs.adopt_libraries()
        library.warning("once")
        quiet.warning("never")
    assert [line["message"] for line in lines()] == ["once"]
    assert (library.handlers, quiet.handlers) == ([], [kept])


def test_libraries_tell_of_their_doings_only_to_those_who_look_for_a_fault(lines: Lines) -> None:
    library = logging.getLogger("a_library")
    with logs.standard_error_logs() as ours:
        for level in ("info", "debug", "error"):
            ours.configure(LoggingSettings(format="json", level=level))
            library.debug("opens ftp://user:password@host")
            for source in (log, library):
                source.info("doing")
                source.warning("odd")
    told = [(line["logger"], line["message"]) for line in lines()]
    mine, other = "recjob.test", "a_library"
    assert told == [
        *[(mine, "doing"), (mine, "odd"), (other, "odd")],
        *[(mine, "doing"), (mine, "odd"), (other, "doing"), (other, "odd")],
    ]


def test_torch_and_alembic_log_as_we_do() -> None:
    program = """
import logging, sys
from recjob import logs
from recjob.settings import LoggingSettings
with logs.standard_error_logs() as ours:
    ours.configure(LoggingSettings(format="json"))
    import torch, alembic
    logs.adopt_libraries()
    logging.getLogger("torch.distributed").warning("from torch")
    logging.getLogger("torch._dynamo").warning("from dynamo")
    logging.getLogger("alembic.runtime.migration").warning("from alembic")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [json.loads(line)["message"] for line in ended.stderr.splitlines()]
    assert found == ["from torch", "from dynamo", "from alembic"]


def test_a_run_is_told_from_start_to_end(
    database: Database, database_settings: Settings, lines: Lines
) -> None:
    def body(context: JobContext) -> JobResult:
        with context.stage("read") as stage:
            stage.items = 5
        with context.stage("write"):
            raise TemporaryError("the disk is full")

    with logs.standard_error_logs() as ours:
        ours.configure(INFO_JSON)
        with pytest.raises(TemporaryError) as caught:
            run_job("import", database, database_settings, body)
        logs.tell_error(caught.value)
        run_job("report", database, database_settings, lambda _: JobResult())
    start, read, write, outcome, error, *report = lines()
    run = start["run_id"]
    assert start["message"].startswith("started, pid ")
    assert marks([start, read, write, outcome, error]) == [
        (run, "import", None),
        (run, "import", "read"),
        (run, "import", "write"),
        (run, "import", None),
        (run, "import", "write"),
    ]
    assert (read["items"], read["level"]) == (5, "info")
    assert read["seconds"] >= 0
    assert read["peak_memory_bytes"] > 0
    assert (outcome["outcome"], outcome["message"]) == ("failed", "failed: the disk is full")
    assert (error["level"], error["message"]) == ("error", "the disk is full")
    assert (error["error"], error["exit_code"]) == ("TemporaryError", 5)
    assert marks(report) == [(run + 1, "report", None)] * 2
    assert report[1]["outcome"] == "done"


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("--log-format", "json", "embed", "--fast"), {}),
        (("--log-format", "json", "bogus"), {}),
        (("bogus",), {"RECJOB_LOGGING__FORMAT": "json"}),
        (("--log-format", "json", "embed", "--settings", "nowhere.toml"), {}),
    ],
)
def test_errors_of_the_command_line_are_json_too(
    arguments: tuple[str, ...], variables: dict[str, str], tmp_path: Path, command: Run
) -> None:
    ended = command(*arguments, variables=variables | {"RECJOB_HOME": str(tmp_path / "var")})
    assert (ended.code, ended.out) == (2, "")
    [line] = map(json.loads, ended.err.splitlines())
    assert (line["level"], line["exit_code"]) == ("error", 2)


def test_settings_file_and_option(tmp_path: Path, command: Run) -> None:
    (tmp_path / "recjob.toml").write_text('[logging]\nformat = "json"\n')
    (tmp_path / "mine.toml").write_text('[logging]\nformat = "json"\n')
    variables = {
        "RECJOB_HOME": str(tmp_path / "var"),
        "RECJOB_DATABASE_URL": "postgresql://localhost:1/shop",
    }
    as_json = command("runs", "list", "--settings", "mine.toml", variables=variables)
    line = json.loads(as_json.err)
    assert (line["error"], line["exit_code"]) == ("TemporaryError", 5)
    assert json.loads(command("runs", "list", variables=variables).err)["exit_code"] == 5
    as_text = command("--log-format", "text", "runs", "list", variables=variables)
    assert as_text.error(5) == line["message"]
