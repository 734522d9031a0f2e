"""From a snapshot to what Prometheus reads; every sink gives the same."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from prometheus_client import Metric

from recjob.monitoring.definitions import (
    BUILD,
    DECISIONS,
    ENGINE,
    GPU_MEMORY_LIMIT,
    JOB_OUTCOMES,
    JOB_PEAK_GPU_MEMORY,
    JOB_PEAK_MEMORY,
    MEMORY_LIMIT,
    METRICS,
    MODEL_AUC,
    MODEL_NDCG,
)
from recjob.monitoring.snapshot import Gauge, HistogramFigures, MetricsSnapshot, merged
from recjob.version import source_version

_OF_LAST_RUN = (JOB_PEAK_MEMORY, JOB_PEAK_GPU_MEMORY, MEMORY_LIMIT, GPU_MEMORY_LIMIT)
"""Gauges of a job that belong together: those of one run."""
_SUFFIXES = {"counter": "_total", "info": "_info", "gauge": "", "histogram": ""}
"""What a sample of each kind has behind the name of its family."""


@dataclass(frozen=True)
class SchedulerFigures:
    """What only the scheduler knows."""

    leader: bool
    last_tick: datetime
    next_runs: Mapping[str, datetime]


class _Families:
    """Families under construction; those without a sample are left out."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """A sample; None: there is none."""
        definition = METRICS[name]
        assert set(labels) == set(definition.labels), f"{name}: {labels}"
        if value is not None:
            ordered = {label: labels[label] for label in definition.labels}
            self._family(name).add_sample(name, ordered, value)

    def add_histogram(self, histogram: HistogramFigures) -> None:
        """Its cumulative buckets, count and sum."""
        family, total = self._family(histogram.name), 0
        labels = {label: histogram.labels[label] for label in METRICS[histogram.name].labels}
        edges = (*histogram.edges, float("inf"))
        for edge, count in zip(edges, histogram.counts, strict=True):
            total += count
            le = "+Inf" if edge == float("inf") else str(float(edge))
            family.add_sample(f"{histogram.name}_bucket", {**labels, "le": le}, total)
        family.add_sample(f"{histogram.name}_count", labels, total)
        family.add_sample(f"{histogram.name}_sum", labels, histogram.sum)

    def __iter__(self) -> Iterator[Metric]:
        """In the order of the definitions."""
        return (self._families[name] for name in METRICS if name in self._families)

    def _family(self, name: str) -> Metric:
        if name not in self._families:
            definition = METRICS[name]
            family = name.removesuffix(_SUFFIXES[definition.kind])
            self._families[name] = Metric(family, definition.help, definition.kind)
        return self._families[name]


def build_families() -> Iterable[Metric]:
    """What is known without anybody's help."""
    families = _Families()
    families.add(BUILD, 1, version=source_version(), python=platform.python_version())
    return families


def scheduler_families(scheduler: SchedulerFigures, *, database_up: bool) -> Iterable[Metric]:
    """What the scheduler knows without the database."""
    families = _Families()
    families.add("recjob_database_up", int(database_up))
    families.add("recjob_scheduler_leader", int(scheduler.leader))
    families.add("recjob_scheduler_last_tick_timestamp_seconds", scheduler.last_tick.timestamp())
    for entry, due in scheduler.next_runs.items():
        families.add("recjob_schedule_next_run_timestamp_seconds", due.timestamp(), entry=entry)
    return families


def snapshot_families(snapshot: MetricsSnapshot) -> Iterable[Metric]:
    """What the database knows."""
    families = _Families()
    _add_jobs(families, snapshot)
    _add_stages(families, snapshot)
    _add_histograms(families, snapshot.histograms)
    _add_night(families, snapshot)
    _add_models(families, snapshot)
    for entry in dict.fromkeys(entry for entry, _ in snapshot.schedule_runs):
        for outcome in JOB_OUTCOMES:
            count = snapshot.schedule_runs.get((entry, outcome), 0)
            families.add("recjob_schedule_runs_total", count, entry=entry, outcome=outcome)
    return families


def _add_jobs(families: _Families, snapshot: MetricsSnapshot) -> None:
    for job, figures in snapshot.jobs.items():
        for outcome in JOB_OUTCOMES:
            families.add(
                "recjob_job_runs_total", figures.runs.get(outcome, 0), job=job, outcome=outcome
            )
            if figures.last_outcome is not None:
                families.add(
                    "recjob_job_last_outcome",
                    int(outcome == figures.last_outcome),
                    job=job,
                    outcome=outcome,
                )
        families.add("recjob_job_running", int(figures.running), job=job)
        for name, value in (
            ("recjob_job_last_start_timestamp_seconds", figures.last_start),
            ("recjob_job_last_completion_timestamp_seconds", figures.last_completion),
            ("recjob_job_last_success_timestamp_seconds", figures.last_success),
            ("recjob_job_duration_seconds", figures.duration_seconds),
        ):
            families.add(name, value, job=job)
    newest: dict[str, int] = {}
    for gauge in snapshot.gauges:  # the newest run first: what it does not say has no value
        if gauge.name in _OF_LAST_RUN and gauge.run_id == (
            newest.setdefault(gauge.job, gauge.run_id)
        ):
            families.add(gauge.name, gauge.value, job=gauge.job)
    for gauge in _of_newest_run(snapshot.gauges, ENGINE):
        families.add(ENGINE, gauge.value, **gauge.labels)


def _add_stages(families: _Families, snapshot: MetricsSnapshot) -> None:
    for (job, stage), figures in snapshot.stages.items():
        throughput = None
        if figures.items and figures.seconds:
            throughput = figures.items / figures.seconds
        for name, value in (
            ("recjob_stage_duration_seconds", figures.seconds),
            ("recjob_stage_last_items", figures.items),
            ("recjob_stage_throughput_items_per_second", throughput),
            ("recjob_stage_peak_memory_bytes", figures.peak_memory_bytes),
            ("recjob_stage_peak_gpu_memory_bytes", figures.peak_gpu_memory_bytes),
            ("recjob_stage_items_total", figures.items_total),
            ("recjob_stage_seconds_total", figures.seconds_total),
        ):
            families.add(name, value, job=job, stage=stage)


def _add_histograms(families: _Families, histograms: Iterable[HistogramFigures]) -> None:
    known = (found for found in histograms if found.name in METRICS)
    for _, parts in groupby(known, lambda found: (found.name, sorted(found.labels.items()))):
        families.add_histogram(merged(tuple(parts)))


def _add_night(families: _Families, snapshot: MetricsSnapshot) -> None:
    if snapshot.run_held is not None:
        families.add("recjob_run_held", int(snapshot.run_held))
    published = snapshot.published
    if published is not None:
        statistics = published.statistics
        families.add("recjob_published_run", published.run_id)
        families.add("recjob_published_run_timestamp_seconds", published.written)
        for name, key in (
            ("recjob_published_lists", "lists"),
            ("recjob_candidates", "candidates"),
            ("recjob_catalog_coverage_ratio", "coverage"),
        ):
            families.add(name, statistics.get(key))
        # A run of an older version does not say whether another model scored the one before.
        model = "another" if statistics.get("same_model") is False else "same"
        families.add("recjob_score_drift_psi", statistics.get("score_shift"), model=model)
        for kind, count in statistics.get("users", {}).items():
            families.add("recjob_users", count, kind=kind)
        for reason, count in statistics.get("filtered", {}).items():
            families.add("recjob_candidates_filtered", count, reason=reason)
    catalog = snapshot.catalog
    if catalog is not None:
        families.add("recjob_images_quarantined", catalog.quarantined)
        for state, count in (
            ("available", catalog.available),
            ("unavailable", catalog.unavailable),
            ("quarantined", catalog.quarantined),
        ):
            families.add("recjob_catalog_items", count, state=state)


def _add_models(families: _Families, snapshot: MetricsSnapshot) -> None:
    for model in snapshot.models:
        families.add("recjob_model_info", 1, role=model.role, model=model.model_id)
        families.add("recjob_model_trained_timestamp_seconds", model.trained, role=model.role)
        for name, key in ((MODEL_AUC, "auc"), (MODEL_NDCG, "ndcg_mean")):
            families.add(name, model.validation.get(key), role=model.role, split="validation")
    active = {(model.role, model.model_id) for model in snapshot.models}
    told = set()
    for gauge in snapshot.gauges:
        if gauge.name in (MODEL_AUC, MODEL_NDCG):
            # What was measured of a model before it went out of use, nobody shall take for the
            # one that came after.
            labels = dict(gauge.labels)
            of_active = (labels["role"], labels.pop("model", None)) in active
            series = gauge.name, tuple(sorted(labels.items()))
            if of_active and series not in told:
                told.add(series)
                families.add(gauge.name, gauge.value, **labels)
    gate = snapshot.gate
    for decision in DECISIONS:
        families.add(
            "recjob_gate_decisions_total", gate.decisions.get(decision, 0), decision=decision
        )
    if gate.last is not None:
        families.add("recjob_gate_last_decision_timestamp_seconds", gate.last_decided)
        families.add("recjob_gate_last_refused", int(gate.last == "refused"))


def _of_newest_run(gauges: Iterable[Gauge], name: str) -> Iterator[Gauge]:
    """What the newest run that has a gauge of this name says."""
    newest = None
    for gauge in gauges:  # the newest run first
        if gauge.name == name and newest in (None, gauge.run_id):
            newest = gauge.run_id
            yield gauge
