"""Sinks and the real programs: the Pushgateway takes what jobs push, promtool finds no fault."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from recjob.jobs.metrics import SnapshotReader
from recjob.jobs.metrics_server import SchedulerCollector, serve_metrics
from recjob.jobs.runner import JOB_LOCKS, run_job
from recjob.jobs.schedule_state import SchedulerState
from recjob.jobs.stages import JobResult
from recjob.monitoring.definitions import METRICS
from recjob.monitoring.sinks import write_textfile
from recjob.settings import MetricsSettings
from recjob.store.database import open_database
from tests.fixtures_shop import Shop
from tests.jobs.test_metrics import Samples, read_samples, value
from tests.programs import installed
from tests.system.commands import PATIENCE_SECONDS, clean_environment, command_line, wait_for

pytestmark = pytest.mark.system


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def answers(url: str) -> bool:
    try:
        get(url)
    except (URLError, ConnectionError):
        return False
    return True


@pytest.fixture
def pushgateway(tmp_path: Path) -> Iterator[str]:
    """URL of a fresh Pushgateway."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        installed("prometheus-pushgateway", "prometheus-pushgateway"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--persistence.file=",  # Debian's keeps what was pushed, and begins with it
    ]
    with (
        (tmp_path / "pushgateway.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: answers(f"{url}/-/ready"))
            yield url
        finally:
            process.terminate()


def ours(samples: Samples) -> Samples:
    """Ours without the labels that the Pushgateway adds, and with ends of buckets in one spelling.

    (It writes "1" for "1.0".)
    """

    def plain(labels: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        pairs = {pair for pair in labels if pair not in (("instance", ""), ("job", "recjob"))}
        return frozenset((name, str(float(end)) if name == "le" else end) for name, end in pairs)

    return {
        (name, plain(labels)): figure
        for (name, labels), figure in samples.items()
        if name.startswith("recjob_")
    }


def test_the_pushgateway_shows_what_a_textfile_would(
    shop: Shop, pushgateway: str, tmp_path: Path
) -> None:
    variables = clean_environment(
        **shop.variables,
        RECJOB_METRICS__SINK="pushgateway",
        RECJOB_METRICS__PUSHGATEWAY=pushgateway.replace("//", "//anna:s3cret@"),
    )
    ended = subprocess.run(
        command_line("embed"), cwd=shop.folder, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "metrics" not in ended.stderr
    pushed = ours(read_samples(get(f"{pushgateway}/metrics")))
    assert value(pushed, "recjob_job_runs_total", job="embed", outcome="done") == 2
    assert value(pushed, "recjob_users", kind="warm")
    # The same figures again, by the other sink.
    options = MetricsSettings(sink="textfile", textfile_folder=str(tmp_path))
    settings = shop.settings.model_copy(update={"metrics": options})
    with open_database(settings) as database:
        run_job("report", database, settings, lambda _: JobResult())
    written = ours(read_samples((tmp_path / "recjob.prom").read_text()))

    def of_others(samples: Samples) -> Samples:
        """All but what the report's own run changed."""
        return {
            series: figure
            for series, figure in samples.items()
            if ("job", "report") not in series[1]
        }

    assert of_others(pushed) == of_others(written)


def test_what_is_gone_leaves_the_pushgateway(shop: Shop, pushgateway: str) -> None:
    options = MetricsSettings(sink="pushgateway", pushgateway=pushgateway)
    settings = shop.settings.model_copy(update={"metrics": options})
    with open_database(settings) as database:
        run_job("report", database, settings, lambda _: JobResult())
        before = ours(read_samples(get(f"{pushgateway}/metrics")))
        assert value(before, "recjob_published_run") is not None
        shop.rows("UPDATE publication SET current_run = NULL")
        run_job("report", database, settings, lambda _: JobResult())
    after = ours(read_samples(get(f"{pushgateway}/metrics")))
    assert value(after, "recjob_published_run") is None
    runs = [
        value(found, "recjob_job_runs_total", job="report", outcome="done")
        for found in (before, after)
    ]
    assert runs[0] is not None
    assert runs[1] == runs[0] + 1


def test_jobs_do_not_replace_the_schedulers_word(shop: Shop, pushgateway: str) -> None:
    options = MetricsSettings(sink="pushgateway", pushgateway=pushgateway)
    settings = shop.settings.model_copy(update={"metrics": options})
    state = SchedulerState()
    state.update(leader=True, next_runs={})

    def own() -> tuple[float | None, ...]:
        found = read_samples(get(f"{pushgateway}/metrics"))
        labels = {"instance": "", "job": "recjob-scheduler"}
        names = ("recjob_scheduler_leader", "recjob_database_up")
        return tuple(value(found, name, **labels) for name in names)

    with open_database(settings) as database:
        with serve_metrics(settings, database, state):
            wait_for(lambda: own() == (1, 1))
        run_job("report", database, settings, lambda _: JobResult())
    assert own() == (1, 1)
    jobs = ours(read_samples(get(f"{pushgateway}/metrics")))
    assert value(jobs, "recjob_job_last_outcome", job="report", outcome="done") == 1


def test_promtool_finds_no_fault_in_a_whole_run(
    trained_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promtool = installed("promtool", "prometheus")
    monkeypatch.setattr("recjob.jobs.metrics.ANSWER_SECONDS", float(PATIENCE_SECONDS))
    path = tmp_path / "recjob.prom"
    state = SchedulerState()
    with open_database(trained_shop.settings) as database:
        reader = SnapshotReader(database, JOB_LOCKS)
        write_textfile(path, SchedulerCollector(reader, state).collect())
    found = read_samples(path.read_text())
    assert value(found, "recjob_database_up") == 1
    names = {name for name, _ in found}
    for name, metric in METRICS.items():
        # No GPU, no scheduler, and nothing was published before.
        absent_here = "gpu" in name or name.startswith(("recjob_schedule_", "recjob_score_drift"))
        part = "_count" if metric.kind == "histogram" else ""
        assert absent_here or name + part in names, name
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=path.read_text(), capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
