"""What Prometheus reads of a snapshot, in both of its formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from recjob.monitoring.definitions import JOB_OUTCOMES, METRICS
from recjob.monitoring.families import (
    SchedulerFigures,
    build_families,
    scheduler_families,
    snapshot_families,
)
from recjob.monitoring.sinks import Families, registry_of
from recjob.monitoring.snapshot import (
    CatalogFigures,
    GateFigures,
    Gauge,
    HistogramFigures,
    JobFigures,
    MetricsSnapshot,
    ModelFigures,
    PublishedFigures,
    StageFigures,
)
from recjob.version import source_version

NIGHT = "nightly-recommend"


def measured_of(role: str, model: str) -> dict[str, str]:
    """Labels of a figure on the test part, as the ledger keeps them."""
    return {"role": role, "split": "test", "model": model}


FULL = MetricsSnapshot(
    jobs={
        "embed": JobFigures({"done": 3, "failed": 1}, True, 50.0, 40.0, 30.0, "failed", 12.5),
        "import": JobFigures({}),
    },
    stages={
        ("embed", "index"): StageFigures(70, 9.0, 2.0, 10, 1000, 2000),
        ("embed", "read"): StageFigures(0, 3.0, 1.0, 0, 900, None),
        ("import", "old"): StageFigures(5, 6.0),
    },
    histograms=(
        HistogramFigures(
            "recjob_scoring_batch_seconds", {"engine": "fp32"}, (0.1, 1), (2, 0, 1), 9
        ),
        HistogramFigures("recjob_scoring_batch_seconds", {"engine": "fp32"}, (0.5,), (4, 1), 3),
        HistogramFigures(
            "recjob_embedding_batch_seconds", {"kind": "item", "engine": "torch"}, (1,), (1, 0), 0.5
        ),
        HistogramFigures("an_older_versions_seconds", {}, (1,), (1, 0), 0.5),
    ),
    gauges=(
        Gauge("embed", 9, "recjob_job_peak_memory_bytes", {}, 500),
        Gauge("embed", 9, "recjob_memory_limit_bytes", {}, 1000),
        Gauge(NIGHT, 8, "recjob_job_peak_memory_bytes", {}, 400),
        Gauge(NIGHT, 8, "recjob_job_peak_gpu_memory_bytes", {}, 350),
        Gauge(
            NIGHT,
            8,
            "recjob_engine_info",
            {"model": "s-2", "engine": "torch", "precision": "bf16"},
            1,
        ),
        Gauge(NIGHT, 8, "recjob_memory_limit_bytes", {}, 2000),
        Gauge("gate", 8, "recjob_model_auc", measured_of("student", "s-3"), 0.6),
        Gauge("gate", 7, "recjob_model_auc", measured_of("student", "s-2"), 0.9),
        Gauge(
            "embed",
            6,
            "recjob_engine_info",
            {"model": "s-1", "engine": "torch", "precision": "fp32"},
            1,
        ),
        Gauge("evaluate", 5, "recjob_model_auc", measured_of("student", "s-2"), 0.7),
        Gauge("evaluate", 5, "recjob_model_auc", measured_of("teacher", "t-1"), 0.8),
        Gauge("evaluate", 5, "recjob_model_auc", {"role": "teacher", "split": "test"}, 0.1),
        Gauge("embed", 4, "recjob_job_peak_gpu_memory_bytes", {}, 300),
        Gauge("embed", 4, "recjob_gpu_memory_limit_bytes", {}, 3000),
        Gauge("distill", 2, "recjob_gpu_memory_limit_bytes", {}, 4000),
        Gauge("evaluate", 3, "an_older_versions", {}, 0.8),
    ),
    published=PublishedFigures(
        41,
        60.0,
        {
            "lists": 17,
            "candidates": 100,
            "coverage": 0.5,
            "score_shift": 0.03,
            "same_model": False,
            "users": {"warm": 12, "cold": 3, "stranger": 2},
            "filtered": {"unavailable item": 4},
        },
    ),
    run_held=True,
    catalog=CatalogFigures(50, 7, 3),
    models=(
        ModelFigures("student", "s-2", 20.0, {"auc": 0.95, "ndcg_mean": 0.6, "ndcg": 0.8}),
        ModelFigures("teacher", "t-1", 15.0, {}),
        ModelFigures("autoencoder", "a-1", 10.0, {}),
    ),
    gate=GateFigures({"passed": 2, "refused": 1}, "refused", 55.0),
    schedule_runs={("embed", "done"): 4},
)
SCHEDULER = SchedulerFigures(
    True, datetime(2026, 1, 1, tzinfo=UTC), {"embed": datetime(2026, 1, 2, tzinfo=UTC)}
)

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def served() -> bytes:
    families = [
        *build_families(),
        *scheduler_families(SCHEDULER, database_up=True),
        *snapshot_families(FULL),
    ]
    return generate_latest(registry_of(Families(families)))


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Every sample by name and labels; no two are the same series."""
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(served().decode())
        for sample in family.samples
    ]
    assert len({series for series, _ in found}) == len(found)
    return dict(found)


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_every_metric_is_there_with_its_kind_labels_and_help() -> None:
    families = {family.name: family for family in text_string_to_metric_families(served().decode())}
    kinds = {"info": "gauge"}  # the older format has no kind of its own for it
    for metric in METRICS.values():
        family = families.pop(
            metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        )
        assert (family.type, family.documentation) == (
            kinds.get(metric.kind, metric.kind),
            metric.help,
        )
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    assert families == {}


def test_names_and_helps_are_as_prometheus_asks() -> None:
    for metric in METRICS.values():
        assert metric.name.startswith("recjob_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_info") == (metric.kind == "info")
        assert metric.help.endswith(".")
        assert not {"user", "user_id", "outfit", "item"} & set(metric.labels)


def test_jobs(samples: Samples) -> None:
    def embed(name: str, **labels: str) -> float | None:
        return value(samples, f"recjob_job_{name}", job="embed", **labels)

    assert embed("runs_total", outcome="done") == 3
    assert embed("runs_total", outcome="killed") == 0  # there before it happens
    assert (embed("running"), value(samples, "recjob_job_running", job="import")) == (1, 0)
    assert embed("last_start_timestamp_seconds") == 50
    assert embed("last_completion_timestamp_seconds") == 40
    assert embed("last_success_timestamp_seconds") == 30
    outcomes = {outcome: embed("last_outcome", outcome=outcome) for outcome in JOB_OUTCOMES}
    assert outcomes == {name: int(name == "failed") for name in JOB_OUTCOMES}
    assert embed("duration_seconds") == 12.5
    assert value(samples, "recjob_job_runs_total", job="import", outcome="done") == 0
    assert value(samples, "recjob_job_last_outcome", job="import", outcome="done") is None
    assert value(samples, "recjob_job_last_start_timestamp_seconds", job="import") is None


def test_memory_is_that_of_the_last_run(samples: Samples) -> None:
    assert value(samples, "recjob_job_peak_memory_bytes", job="embed") == 500
    assert value(samples, "recjob_job_peak_memory_bytes", job=NIGHT) == 400
    # The last run had no GPU.
    assert value(samples, "recjob_job_peak_gpu_memory_bytes", job="embed") is None
    assert value(samples, "recjob_job_peak_gpu_memory_bytes", job=NIGHT) == 350
    # What each could have, on whatever machine it ran.
    assert value(samples, "recjob_memory_limit_bytes", job="embed") == 1000
    assert value(samples, "recjob_memory_limit_bytes", job=NIGHT) == 2000
    assert value(samples, "recjob_gpu_memory_limit_bytes", job="embed") is None
    assert value(samples, "recjob_gpu_memory_limit_bytes", job="distill") == 4000


def test_stages(samples: Samples) -> None:
    def index(name: str) -> float | None:
        return value(samples, f"recjob_stage_{name}", job="embed", stage="index")

    def read(name: str) -> float | None:
        return value(samples, f"recjob_stage_{name}", job="embed", stage="read")

    assert (index("duration_seconds"), index("last_items")) == (2, 10)
    assert index("throughput_items_per_second") == 5
    assert (index("peak_memory_bytes"), index("peak_gpu_memory_bytes")) == (1000, 2000)
    assert (index("items_total"), index("seconds_total")) == (70, 9)
    assert read("throughput_items_per_second") is None
    assert read("peak_gpu_memory_bytes") is None
    assert value(samples, "recjob_stage_last_items", job="import", stage="old") is None
    assert value(samples, "recjob_stage_items_total", job="import", stage="old") == 5


def test_histograms_are_cumulative(samples: Samples) -> None:
    def scoring(part: str, **labels: str) -> float | None:
        return value(samples, f"recjob_scoring_batch_seconds_{part}", engine="fp32", **labels)

    buckets = [scoring("bucket", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 6, 8]  # what was at most 0.5 was at most 1
    assert (scoring("count"), scoring("sum")) == (8, 12)
    item = {"kind": "item", "engine": "torch"}
    assert value(samples, "recjob_embedding_batch_seconds_count", **item) == 1


def test_the_published_run(samples: Samples) -> None:
    assert value(samples, "recjob_published_run") == 41
    assert value(samples, "recjob_published_run_timestamp_seconds") == 60
    assert value(samples, "recjob_published_lists") == 17
    assert value(samples, "recjob_users", kind="cold") == 3
    assert value(samples, "recjob_candidates_filtered", reason="unavailable item") == 4
    assert value(samples, "recjob_catalog_coverage_ratio") == 0.5
    assert value(samples, "recjob_score_drift_psi", model="another") == 0.03
    assert value(samples, "recjob_run_held") == 1


def test_catalog_models_and_gate(samples: Samples) -> None:
    states = {
        state: value(samples, "recjob_catalog_items", state=state)
        for state in ("available", "unavailable", "quarantined")
    }
    assert states == {"available": 50, "unavailable": 7, "quarantined": 3}
    assert value(samples, "recjob_images_quarantined") == 3
    aucs = {
        (role, split): value(samples, "recjob_model_auc", role=role, split=split)
        for role in ("student", "teacher")
        for split in ("validation", "test")
    }
    assert aucs == {
        ("student", "validation"): 0.95,
        ("student", "test"): 0.9,  # the gate's, which came after evaluate; s-3 is rolled back
        ("teacher", "validation"): None,
        ("teacher", "test"): 0.8,
    }
    assert value(samples, "recjob_model_ndcg", role="student", split="validation") == 0.6
    assert value(samples, "recjob_model_info", role="autoencoder", model="a-1") == 1
    assert value(samples, "recjob_model_trained_timestamp_seconds", role="student") == 20
    decisions = {
        decision: value(samples, "recjob_gate_decisions_total", decision=decision)
        for decision in ("passed", "refused", "forced")
    }
    assert decisions == {"passed": 2, "refused": 1, "forced": 0}
    assert value(samples, "recjob_gate_last_refused") == 1
    engines = [dict(labels) for name, labels in samples if name == "recjob_engine_info"]
    assert engines == [{"model": "s-2", "engine": "torch", "precision": "bf16"}]


def test_the_scheduler(samples: Samples) -> None:
    assert value(samples, "recjob_scheduler_leader") == 1
    assert value(samples, "recjob_scheduler_last_tick_timestamp_seconds") == 1767225600
    due = value(samples, "recjob_schedule_next_run_timestamp_seconds", entry="embed")
    assert due == 1767225600 + 86400
    assert value(samples, "recjob_schedule_runs_total", entry="embed", outcome="done") == 4
    assert value(samples, "recjob_schedule_runs_total", entry="embed", outcome="failed") == 0


def test_an_empty_database_serves_what_it_has() -> None:
    text = generate_latest(registry_of(Families(snapshot_families(MetricsSnapshot())))).decode()
    families = list(text_string_to_metric_families(text))
    assert [family.name for family in families] == ["recjob_gate_decisions"]
    assert not math.isnan(families[0].samples[0].value)


def test_a_run_of_an_earlier_version_or_the_first_one() -> None:
    for statistics in ({}, {"lists": 3, "score_shift": None}):
        snapshot = MetricsSnapshot(published=PublishedFigures(1, 2.0, statistics))
        names = {family.name for family in snapshot_families(snapshot)}
        assert "recjob_published_run" in names
        assert "recjob_score_drift_psi" not in names


def test_openmetrics_says_the_same(samples: Samples) -> None:
    families = [
        *build_families(),
        *scheduler_families(SCHEDULER, database_up=True),
        *snapshot_families(FULL),
    ]
    text = generate_openmetrics(registry_of(Families(families))).decode()  # type: ignore[no-untyped-call]
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read_openmetrics(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert found == samples
    assert any(dict(labels).get("version") == source_version() for _, labels in found)
