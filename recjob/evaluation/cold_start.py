"""Cold-start evaluation (Sec. 4.3): newcomers with only 1 or only 5 known outfits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recjob.catalog.catalog import Catalog, Float32Array, Int32Array
from recjob.catalog.negatives import EvaluationLists, evaluation_lists
from recjob.catalog.split import Part
from recjob.evaluation.protocol import metrics_per_user
from recjob.inference.embedding import embed_outfits
from recjob.inference.engine import Engine
from recjob.model.cold_start import Strategy, cold_start_vectors
from recjob.model.recommender import FEATURE_DIM


@dataclass(frozen=True)
class ColdStartQuality:
    """Mean AUC of newcomers who show `outfits` outfits, over users and draws."""

    outfits: int
    strategy: Strategy
    users: int
    """Newcomers with enough outfits: those shown, and at least one to rank."""
    draws: int
    auc: float
    auc_deviation: float
    """Standard deviation of the mean AUC over the draws."""


@dataclass(frozen=True)
class ColdStartProtocol:
    """What is measured, and how."""

    shown: tuple[int, ...]
    draws: int
    n_negatives: int
    threshold: float
    temperature: float
    seed: int
    batch_size: int


def cold_start_quality(
    engine: Engine,
    features: Float32Array,
    user_vectors: Float32Array,
    catalog: Catalog,
    cold: Int32Array,
    protocol: ColdStartProtocol,
) -> list[ColdStartQuality]:
    """AUC of newcomers under both strategies, for each number of outfits shown.

    In every draw a newcomer shows that many random outfits, and the others are ranked against
    random negatives. A newcomer with too few outfits is left out.

    Args:
        engine: runs the Set Transformer.
        features: `(n_items, 128)` item features.
        user_vectors: `(U, 128)` of the users that the model knows.
        catalog: newcomers included.
        cold: `(n,)` newcomers, ascending.
        protocol: numbers of outfits, draws, negatives and the settings of Sec. 3.5.
    """
    # Every positive of a newcomer is a test positive; nobody else's counts.
    parts = np.full(len(catalog.positives), Part.TRAIN, np.int8)
    parts[np.isin(catalog.positives[:, 0], cold)] = Part.TEST
    lists = evaluation_lists(
        catalog, parts, Part.TEST, protocol.n_negatives, protocol.seed, users=cold
    )
    n, length, width = lists.items.shape
    # Once for all draws and strategies: only the newcomers' vectors differ between them.
    list_vectors = embed_outfits(
        engine, features, lists.items.reshape(-1, width), protocol.batch_size
    ).reshape(n, length, FEATURE_DIM)
    results = []
    for shown in protocol.shown:
        of_enough = _with_more_than(lists, shown)
        if not of_enough.any():
            continue
        subset = EvaluationLists(lists.user[of_enough], lists.items[of_enough], lists.left_out)
        vectors = list_vectors[of_enough]
        users, owner = np.unique(subset.user, return_inverse=True)
        aucs: dict[Strategy, list[float]] = {"avg": [], "w-avg": []}
        for draw in range(protocol.draws):
            rng = np.random.default_rng([protocol.seed, 17, shown, draw])
            profile = _draw(owner, shown, rng)
            ranked = EvaluationLists(subset.user[~profile], subset.items[~profile], 0)
            for strategy, values in aucs.items():
                cold_vectors = cold_start_vectors(
                    torch.from_numpy(user_vectors),
                    torch.from_numpy(vectors[profile, 0]),
                    torch.from_numpy(owner[profile]),
                    users.size,
                    strategy,
                    protocol.threshold,
                    protocol.temperature,
                ).numpy()
                scores = np.einsum(  # n: list, l: place in it, d: dimension
                    "nd,nld->nl", cold_vectors[owner[~profile]], vectors[~profile]
                )
                values.append(float(metrics_per_user(ranked, scores).auc.mean()))
        results += [
            ColdStartQuality(
                shown,
                strategy,
                users.size,
                protocol.draws,
                float(np.mean(values)),
                float(np.std(values)),
            )
            for strategy, values in aucs.items()
        ]
    return results


def _with_more_than(lists: EvaluationLists, shown: int) -> np.typing.NDArray[np.bool_]:
    """(n,) lists of users who have more than `shown` of them."""
    _, place, count = np.unique(lists.user, return_inverse=True, return_counts=True)
    return np.asarray((count > shown)[place])


def _draw(
    owner: np.typing.NDArray[np.int64], shown: int, rng: np.random.Generator
) -> np.typing.NDArray[np.bool_]:
    """(n,) True for `shown` random lists of every owner."""
    order = np.lexsort((rng.random(owner.size), owner))
    sizes = np.bincount(owner)
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.arange(owner.size) - np.repeat(start, sizes)
    profile = np.zeros(owner.size, np.bool_)
    profile[order] = rank < shown
    return profile
