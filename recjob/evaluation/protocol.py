"""The evaluation protocol: fixed lists of one positive and its negatives, pooled per user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int32Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.evaluation.metrics import GroupedMetrics, grouped
from recjob.inference.embedding import embed_outfits
from recjob.inference.engine import Engine

OUTFITS_PER_BLOCK: Final = 65_536
"""Outfit vectors held at once while scoring (32 MiB)."""


@dataclass(frozen=True)
class Quality:
    """Means over users (Sec. 4.1.2)."""

    auc: float
    ndcg_mean: float
    ndcg: float
    users: int
    positives: int

    def as_dict(self) -> dict[str, float]:
        """For the registry and `--json`."""
        return asdict(self)


def model_scores(
    engine: Engine,
    features: Float32Array,
    user_vectors: Float32Array,
    lists: EvaluationLists,
    batch_size: int,
) -> Float32Array:
    """Scores `(n, 1 + negatives)` of lists.

    Args:
        engine: runs the Set Transformer.
        features: `(n_items, 128)` item features.
        user_vectors: `(n, 128)` one vector per list; normalise them for cosines (Eq. 9), leave
            them as they are for cold starters (Eq. 24).
        lists: what to score.
        batch_size: outfits per call of the engine.
    """
    n, length, width = lists.items.shape
    scores = np.empty((n, length), np.float32)
    block = max(1, OUTFITS_PER_BLOCK // length)
    for start in range(0, n, block):
        items = lists.items[start : start + block]
        outfits = embed_outfits(engine, features, items.reshape(-1, width), batch_size)
        vectors = user_vectors[start : start + block]
        scores[start : start + block] = np.einsum(  # n: list, l: place in it, d: dimension
            "nd,nld->nl", vectors, outfits.reshape(len(items), length, -1)
        )
    return scores


def popularity_list_scores(
    catalog: Catalog, training_positives: Int32Array, lists: EvaluationLists
) -> Float32Array:
    """Scores `(n, 1 + negatives)`: the sum of the items' training counts."""
    used = catalog.outfit_items[training_positives[:, 1]]
    counts = np.bincount(used[used != PADDING], minlength=catalog.n_items).astype(np.float32)
    scores: Float32Array = np.where(lists.items == PADDING, 0, counts[lists.items]).sum(axis=2)
    return scores


def random_list_scores(lists: EvaluationLists, seed: int) -> Float32Array:
    """Scores `(n, 1 + negatives)` drawn at random: the floor of every metric."""
    rng = np.random.default_rng([seed, 7])
    return rng.random(lists.items.shape[:2], dtype=np.float32)


def metrics_per_user(lists: EvaluationLists, scores: Float32Array) -> GroupedMetrics:
    """Metrics of every user over the pooled outfits of all of the user's lists."""
    labels: NDArray[np.int64] = np.zeros(scores.shape, np.int64)
    labels[:, 0] = 1
    user = np.repeat(lists.user, scores.shape[1])
    return grouped(user, scores.ravel(), labels.ravel())


def quality(lists: EvaluationLists, scores: Float32Array) -> Quality:
    """Mean metrics over users; raises ValueError where there is no list."""
    metrics = metrics_per_user(lists, scores)
    return Quality(
        auc=float(metrics.auc.mean()),
        ndcg_mean=float(metrics.ndcg_mean.mean()),
        ndcg=float(metrics.ndcg.mean()),
        users=len(metrics.group),
        positives=len(lists.user),
    )
