"""What the ledger, the registry and the published run say at one moment, ready for Prometheus."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class JobFigures:
    """A kind of job. Times are seconds since 1970; None: it never happened."""

    runs: Mapping[str, int]
    """Ended runs by outcome, also those that have left the ledger."""
    running: bool = False
    last_start: float | None = None
    last_completion: float | None = None
    last_success: float | None = None
    last_outcome: str | None = None
    duration_seconds: float | None = None
    """Of the last ended run."""


@dataclass(frozen=True)
class StageFigures:
    """A stage of a job."""

    items_total: int
    seconds_total: float
    """Sums over all runs."""
    seconds: float | None = None
    """Of the newest run that has the stage, as is what follows; None: it has left the ledger."""
    items: int | None = None
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None


@dataclass(frozen=True)
class HistogramFigures:
    """Latencies of all runs that have the same name, labels and edges."""

    name: str
    labels: Mapping[str, str]
    edges: tuple[float, ...]
    """Upper ends in seconds, ascending."""
    counts: tuple[int, ...]
    """Per bucket, not cumulative; one more than edges."""
    sum: float


@dataclass(frozen=True)
class Gauge:
    """The last word of the runs of one job on something."""

    job: str
    run_id: int
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class PublishedFigures:
    """The run that readers see."""

    run_id: int
    written: float
    """Seconds since 1970."""
    statistics: Mapping[str, Any]
    """As `recommendation_run.statistics` has them; runs of earlier versions have fewer."""


@dataclass(frozen=True)
class CatalogFigures:
    """Items of the catalog."""

    available: int
    unavailable: int
    quarantined: int
    """Without a usable picture, available or not; the other two do not count these."""


@dataclass(frozen=True)
class ModelFigures:
    """An active model."""

    role: str
    model_id: str
    trained: float
    """Seconds since 1970."""
    validation: Mapping[str, Any]
    """`auc`, `ndcg_mean` and more; empty where it was not measured."""


@dataclass(frozen=True)
class GateFigures:
    """What the gate decided."""

    decisions: Mapping[str, int] = field(default_factory=_nothing)
    last: str | None = None
    last_decided: float | None = None
    """Seconds since 1970."""


@dataclass(frozen=True)
class MetricsSnapshot:
    """All that is in the database."""

    jobs: Mapping[str, JobFigures] = field(default_factory=_nothing)
    stages: Mapping[tuple[str, str], StageFigures] = field(default_factory=_nothing)
    """By job and stage."""
    histograms: tuple[HistogramFigures, ...] = ()
    """Those with equal name and labels stand together, that of the newest run first."""
    gauges: tuple[Gauge, ...] = ()
    """The newest of each job, name and labels; the newest run first."""
    published: PublishedFigures | None = None
    run_held: bool | None = None
    """Whether the newest kept run is held back; None: no run is kept."""
    catalog: CatalogFigures | None = None
    models: tuple[ModelFigures, ...] = ()
    gate: GateFigures = field(default_factory=GateFigures)
    schedule_runs: Mapping[tuple[str, str], int] = field(default_factory=_nothing)
    """Ended runs by entry and outcome."""


def merged(parts: Sequence[HistogramFigures]) -> HistogramFigures:
    """One histogram with the edges of the first of `parts`, which share name and labels.

    Counts of other edges go to the first bucket that surely holds them: sum and count stay
    exact, and no bucket claims a latency to be shorter than it was.
    """
    first = parts[0]
    counts = list(first.counts)
    for part in parts[1:]:
        for edge, count in zip((*part.edges, float("inf")), part.counts, strict=True):
            counts[bisect_left(first.edges, edge)] += count
    return HistogramFigures(
        first.name, first.labels, first.edges, tuple(counts), math.fsum(part.sum for part in parts)
    )
