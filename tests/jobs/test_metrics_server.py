"""`/metrics` of the scheduler, asked as Prometheus asks it."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from recjob.errors import SettingsError
from recjob.jobs import metrics_server
from recjob.jobs.metrics_server import serve_metrics
from recjob.jobs.runner import run_job
from recjob.jobs.schedule_state import SchedulerState
from recjob.jobs.stages import JobResult
from recjob.settings import MetricsSettings, Settings
from recjob.store.database import Database, administrator
from tests.jobs.test_metrics import Samples, read_samples, value

DUE = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no database that is away."""
    monkeypatch.setattr("recjob.jobs.metrics.ANSWER_SECONDS", 60.0)


@pytest.fixture
def settings(database_settings: Settings) -> Settings:
    return with_metrics(database_settings, port=0)


@pytest.fixture
def state() -> SchedulerState:
    state = SchedulerState()
    state.update(leader=True, next_runs={"embed": DUE})
    return state


def with_metrics(settings: Settings, **options: object) -> Settings:
    return settings.model_copy(update={"metrics": MetricsSettings.model_validate(options)})


def address(caplog: pytest.LogCaptureFixture) -> str:
    """The one that the log names."""
    [url] = re.findall(r"metrics on (http://127\.0\.0\.1:\d+/metrics)", caplog.text)
    return str(url)


def scrape(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return read_samples(answer.read().decode())


def test_the_ledgers_figures_and_the_schedulers(
    database: Database,
    settings: Settings,
    state: SchedulerState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    run_job("embed", database, settings, lambda _: JobResult())  # as cron starts it
    with serve_metrics(settings, database, state):
        found = scrape(address(caplog))
        assert value(found, "recjob_database_up") == 1
        assert value(found, "recjob_scheduler_leader") == 1
        assert value(found, "recjob_scheduler_last_tick_timestamp_seconds") == pytest.approx(
            state.last_tick.timestamp()
        )
        due = value(found, "recjob_schedule_next_run_timestamp_seconds", entry="embed")
        assert due == DUE.timestamp()
        assert value(found, "recjob_job_runs_total", job="embed", outcome="done") == 1
        state.update(leader=False, next_runs={})
        again = scrape(address(caplog))
        assert value(again, "recjob_scheduler_leader") == 0
        assert value(again, "recjob_schedule_next_run_timestamp_seconds", entry="embed") is None
    with pytest.raises(OSError, match="refused"):
        scrape(address(caplog))


def test_without_the_database_nothing_stale_is_served(
    database: Database,
    settings: Settings,
    state: SchedulerState,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("recjob.jobs.metrics.CACHE_SECONDS", 0.0)
    gone = database.url.set(database="not_there")
    with administrator(gone) as engine:
        away = replace(database, url=gone, engine=engine)
        with serve_metrics(settings, away, state):
            found = scrape(address(caplog))
            assert value(found, "recjob_database_up") == 0
            assert value(found, "recjob_scheduler_leader") == 1
            assert {name for name, _ in found} == {
                "recjob_build_info",
                "recjob_database_up",
                "recjob_scheduler_leader",
                "recjob_scheduler_last_tick_timestamp_seconds",
                "recjob_schedule_next_run_timestamp_seconds",
            }
            scrape(address(caplog))
    assert caplog.text.count("metrics without the database") == 1


@pytest.mark.parametrize("sink", ["textfile", "pushgateway", "none"])
def test_another_sink_means_no_server(
    database: Database,
    settings: Settings,
    state: SchedulerState,
    sink: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with serve_metrics(with_metrics(settings, sink=sink, port=0), database, state):
        assert "metrics on" not in caplog.text


def test_a_port_that_is_taken_is_had_when_it_is_free(
    database: Database,
    settings: Settings,
    state: SchedulerState,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(metrics_server, "RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serving = serve_metrics(with_metrics(settings, port=port), database, state)
        serving.__enter__()  # the standby does not end for that
    try:
        assert f"metrics.port {port} of 127.0.0.1 is taken" in caplog.text
        for _ in range(100):
            try:
                found = scrape(f"http://127.0.0.1:{port}/metrics")
                break
            except OSError:
                time.sleep(0.1)
        assert value(found, "recjob_database_up") == 1
    finally:
        serving.__exit__(None, None, None)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no host at all"])
def test_an_address_of_another_machine(
    database: Database, settings: Settings, state: SchedulerState, host: str
) -> None:
    with (
        pytest.raises(SettingsError, match="set an address of this machine"),
        serve_metrics(with_metrics(settings, host=host), database, state),
    ):
        pass
