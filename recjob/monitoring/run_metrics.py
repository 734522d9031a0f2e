"""What one run counts for Prometheus: histograms and gauges, kept in its row of the ledger."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recjob.monitoring.definitions import MODEL_AUC, MODEL_NDCG

Labels = tuple[tuple[str, str], ...]
"""Pairs of name and value, by name. Never a user's id: labels are few."""


class RunMetrics:
    """Safe to use from several threads; `as_json` is what the ledger keeps.

    Names are those of Prometheus (docs/operations.md), with their prefix and unit.
    """

    def __init__(self, latency_buckets: Sequence[float]) -> None:
        self._edges = tuple(latency_buckets)
        self._guard = threading.Lock()
        self._histograms: dict[tuple[str, Labels], tuple[list[int], float]] = {}
        self._gauges: dict[tuple[str, Labels], float] = {}

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Count one latency."""
        key = (name, tuple(sorted(labels.items())))
        with self._guard:
            counts, total = self._histograms.get(key, ([0] * (len(self._edges) + 1), 0.0))
            counts[bisect_left(self._edges, seconds)] += 1
            self._histograms[key] = (counts, total + seconds)

    @contextmanager
    def timed(self, name: str, **labels: str) -> Iterator[None]:
        """Count the latency of the block; one that failed is not counted."""
        start = time.perf_counter()
        yield
        self.observe(name, time.perf_counter() - start, **labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Say how much something is; the last word counts."""
        with self._guard:
            self._gauges[name, tuple(sorted(labels.items()))] = value

    def test_quality(self, role: str, model_id: str, auc: float, ndcg_mean: float) -> None:
        """Say how well a model ranks the test part; shown for as long as it is in use."""
        labels = {"role": role, "split": "test", "model": model_id}
        self.set(MODEL_AUC, auc, **labels)
        self.set(MODEL_NDCG, ndcg_mean, **labels)

    def as_json(self) -> dict[str, Any]:
        """`histograms`: counts per bucket, not cumulative, one more than edges; `gauges`."""
        with self._guard:
            return {
                "histograms": [
                    {
                        "name": name,
                        "labels": dict(labels),
                        "edges": list(self._edges),
                        "counts": list(counts),
                        "sum": total,
                    }
                    for (name, labels), (counts, total) in self._histograms.items()
                ],
                "gauges": [
                    {"name": name, "labels": dict(labels), "value": value}
                    for (name, labels), value in self._gauges.items()
                ],
            }
