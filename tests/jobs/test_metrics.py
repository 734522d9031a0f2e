"""What becomes of a job's figures, however it ends, in each sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from recjob.errors import RefusedError
from recjob.jobs import metrics, runner
from recjob.jobs.embed import EmbedResult
from recjob.jobs.evaluate import EvaluateResult
from recjob.jobs.metrics import CACHE_SECONDS, SnapshotReader
from recjob.jobs.nightly_recommend import NightlyResult, nightly_recommend
from recjob.jobs.queries import publish_run, show_earlier_run
from recjob.jobs.runner import JOB_LOCKS, JobContext, run_job
from recjob.jobs.stages import JobResult, SkippedResult
from recjob.monitoring.snapshot import CatalogFigures, MetricsSnapshot
from recjob.settings import MetricsSettings, Settings
from recjob.store import metrics as figures
from recjob.store.database import Database, open_database
from tests.fixtures_shop import Shop

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read_samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no database that is away."""
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 60.0)


def written(settings: Settings) -> Samples:
    return read_samples((Path(settings.metrics.textfile_folder) / "recjob.prom").read_text())


def measured(context: JobContext) -> JobResult:
    with context.stage("read") as stage:
        stage.items = 7
    context.metrics.observe("recjob_scoring_batch_seconds", 0.3, engine="fp32")
    return JobResult()


def test_a_job_that_ends_well(database: Database, textfile: Settings) -> None:
    run_job("embed", database, textfile, measured)
    found = written(textfile)
    assert value(found, "recjob_job_runs_total", job="embed", outcome="done") == 1
    assert value(found, "recjob_job_running", job="embed") == 0
    last = value(found, "recjob_job_last_success_timestamp_seconds", job="embed")
    assert last == pytest.approx(time.time(), abs=60)
    assert value(found, "recjob_stage_items_total", job="embed", stage="read") == 7
    assert value(found, "recjob_scoring_batch_seconds_bucket", engine="fp32", le="0.5") == 1
    assert value(found, "recjob_scoring_batch_seconds_bucket", engine="fp32", le="0.25") == 0
    peak = value(found, "recjob_job_peak_memory_bytes", job="embed")
    limit = value(found, "recjob_memory_limit_bytes", job="embed")
    assert peak is not None
    assert limit is not None
    assert 2**20 < peak < limit
    # Jobs that never ran are told of, so that their first failure is an increase.
    assert value(found, "recjob_job_runs_total", job="import", outcome="failed") == 0


def failing(context: JobContext) -> JobResult:
    measured(context)
    with context.stage("score"):
        raise RuntimeError("a fault of ours")


def refused(context: JobContext) -> JobResult:
    measured(context)
    raise RefusedError("worse than before")


def interrupted(context: JobContext) -> JobResult:
    measured(context)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("body", "error", "outcome"),
    [
        (failing, RuntimeError, "failed"),
        (refused, RefusedError, "refused"),
        (interrupted, KeyboardInterrupt, "failed"),
    ],
)
def test_a_job_that_ends_badly(
    database: Database, textfile: Settings, body: Any, error: type[BaseException], outcome: str
) -> None:
    with pytest.raises(error):
        run_job("embed", database, textfile, body)
    found = written(textfile)
    assert value(found, "recjob_job_runs_total", job="embed", outcome=outcome) == 1
    assert value(found, "recjob_job_last_outcome", job="embed", outcome=outcome) == 1
    assert value(found, "recjob_job_last_outcome", job="embed", outcome="done") == 0
    assert value(found, "recjob_job_last_success_timestamp_seconds", job="embed") is None
    assert value(found, "recjob_job_last_completion_timestamp_seconds", job="embed") is not None
    assert value(found, "recjob_stage_last_items", job="embed", stage="read") == 7
    assert value(found, "recjob_scoring_batch_seconds_count", engine="fp32") == 1
    if body is failing:
        assert value(found, "recjob_stage_duration_seconds", job="embed", stage="score") is not None


def test_a_job_that_had_nothing_to_do(database: Database, textfile: Settings) -> None:
    run_job("embed", database, textfile, lambda _: SkippedResult(skipped="nothing is new"))
    found = written(textfile)
    assert value(found, "recjob_job_runs_total", job="embed", outcome="skipped") == 1
    assert value(found, "recjob_job_last_success_timestamp_seconds", job="embed") is not None


def test_what_a_killed_job_had_counted_is_not_lost(
    database: Database, textfile: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(context: JobContext) -> JobResult:
        measured(context)
        context.beat()
        context.metrics.observe("recjob_scoring_batch_seconds", 9, engine="fp32")
        # As a kill does: no word to the ledger, and the locks are free.
        context.lease._drop_connection()
        monkeypatch.setattr(context.lease.__class__, "end", lambda *_: None)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "tell_metrics", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            run_job("embed", database, textfile, killed)
    monkeypatch.undo()
    run_job("import", database, textfile, lambda _: JobResult())
    found = written(textfile)
    assert value(found, "recjob_job_runs_total", job="embed", outcome="killed") == 1
    assert value(found, "recjob_job_last_outcome", job="embed", outcome="killed") == 1
    assert value(found, "recjob_stage_last_items", job="embed", stage="read") == 7
    assert value(found, "recjob_scoring_batch_seconds_sum", engine="fp32") == 0.3
    assert value(found, "recjob_job_peak_memory_bytes", job="embed") is not None


def test_what_a_whole_shop_tells(trained_shop: Shop) -> None:
    with open_database(trained_shop.settings) as database, database.connect() as connection:
        found = figures.read_snapshot(connection, JOB_LOCKS)
    night = trained_shop.results["nightly-recommend"]
    embedded = trained_shop.results["embed"]
    assert isinstance(night, NightlyResult)
    assert isinstance(embedded, EmbedResult)
    counts = {
        (part.name, *sorted(part.labels.values())): sum(part.counts) for part in found.histograms
    }
    size = trained_shop.settings.embed.batch_size
    assert counts == {
        ("recjob_embedding_batch_seconds", "item", "torch"): -(-embedded.new_items // size),
        ("recjob_embedding_batch_seconds", "outfit", "torch"): -(-embedded.new_outfits // size),
        ("recjob_scoring_batch_seconds", "fp32"): night.shards,
    }
    assert found.published is not None
    statistics = found.published.statistics
    assert found.published.run_id == night.run
    assert statistics["filtered"] == night.filtered
    assert statistics["users"] == night.users.model_dump()
    assert statistics["score_shift"] is None  # nothing was published before
    said = {
        (gauge.job, gauge.name, *(gauge.labels[label] for label in sorted(gauge.labels))): (
            gauge.value
        )
        for gauge in found.gauges
    }
    evaluated = trained_shop.results["evaluate"]
    assert isinstance(evaluated, EvaluateResult)
    for row, model_id in zip(
        evaluated.quality[:2], (evaluated.student, evaluated.teacher), strict=True
    ):
        of_model = model_id, row.method, "test"
        assert said["evaluate", "recjob_model_auc", *of_model] == row.auc
        assert said["evaluate", "recjob_model_ndcg", *of_model] == row.ndcg_mean
    assert said["embed", "recjob_engine_info", "torch", night.model, "fp32"] == 1
    validation = {model.role: model.validation for model in found.models}
    assert 0 <= validation["student"]["auc"] <= 1


def test_a_night_tells_how_far_its_scores_are_from_the_last(shop: Shop) -> None:
    shop.run("nightly-recommend", nightly_recommend)
    [(shift, engine)] = shop.rows(
        "SELECT statistics -> 'score_shift', statistics ->> 'engine' FROM recommendation_run "
        "WHERE run_id = (SELECT current_run FROM publication)"
    )
    assert (shift, engine) == (0, "torch cpu fp32")  # the same users, the same model


def test_a_run_that_a_person_shows(shop: Shop, tmp_path: Path) -> None:
    options = MetricsSettings(sink="textfile", textfile_folder=str(tmp_path))
    settings = shop.settings.model_copy(update={"metrics": options})
    first = shop.rows("SELECT current_run FROM publication")[0][0]
    second = shop.run("nightly-recommend", nightly_recommend).run
    show_earlier_run(settings, None)
    assert value(written(settings), "recjob_published_run") == first
    publish_run(settings, second)
    assert value(written(settings), "recjob_published_run") == second


@pytest.mark.parametrize("sink", ["scheduler", "none"])
def test_other_sinks_leave_no_file(database: Database, textfile: Settings, sink: str) -> None:
    options = textfile.metrics.model_copy(update={"sink": sink})
    run_job("embed", database, textfile.model_copy(update={"metrics": options}), measured)
    assert not Path(textfile.metrics.textfile_folder).exists()


def test_a_sink_that_does_not_work_is_no_fault_of_the_job(
    database: Database, textfile: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "textfiles").write_text("a file, not a folder")
    run_job("embed", database, textfile, measured)
    url = "http://anna:s3cret@127.0.0.1:1"
    options = MetricsSettings(sink="pushgateway", pushgateway=url, pushgateway_seconds=1)
    run_job("embed", database, textfile.model_copy(update={"metrics": options}), measured)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[0] for line in lines] == [
        "the metrics are not in the textfile",
        "the metrics are not in the pushgateway",
    ]
    assert "s3cret" not in caplog.text
    assert "anna" not in caplog.text


def test_two_who_scrape_ask_the_database_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = figures.read_snapshot

    def counting(*arguments: Any) -> MetricsSnapshot:
        asked.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(metrics, "read_snapshot", counting)
    reader = SnapshotReader(database, ["embed"])
    answers: list[MetricsSnapshot | None] = []
    threads = [threading.Thread(target=lambda: answers.append(reader.read())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert answers[0] is answers[1] is not None


def test_items_are_counted_again_only_after_an_import(
    database: Database, database_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    real = figures.count_catalog
    monkeypatch.setattr(metrics, "CACHE_SECONDS", 0.0)

    def counting(connection: Connection) -> CatalogFigures:
        counted.append(connection)
        return real(connection)

    monkeypatch.setattr(figures, "count_catalog", counting)
    reader = SnapshotReader(database, [])
    run_job("import", database, database_settings, lambda _: JobResult())
    for _ in range(3):
        assert reader.read() is not None
    assert len(counted) == 1
    run_job("import", database, database_settings, lambda _: JobResult())
    assert reader.read() is not None
    assert len(counted) == 2


def test_a_database_that_hangs_holds_up_no_scrape(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, hangs = figures.read_snapshot, threading.Event()

    def hanging(*arguments: Any) -> MetricsSnapshot:
        hangs.wait()
        return real(*arguments)

    monkeypatch.setattr(metrics, "read_snapshot", hanging)
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(metrics, "CACHE_SECONDS", 0.0)
    reader = SnapshotReader(database, [])
    assert reader.read() is None
    assert reader.read() is None  # the same question, not another thread
    assert sum(thread.name == "metrics" for thread in threading.enumerate()) == 1
    hangs.set()
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 30.0)
    assert reader.read() is not None
    assert caplog.text.count("metrics without the database: no answer in 0.1 s") == 1


def test_an_answer_is_not_older_than_a_scrape_interval() -> None:
    assert CACHE_SECONDS < 15
