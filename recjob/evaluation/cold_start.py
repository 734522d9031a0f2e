"""Cold-start evaluation (Sec. 4.3): newcomers with only 1 or only 5 known outfits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray, Catalog, Float32Array, Int32Array
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.split import Part
from recjob.evaluation.protocol import OUTFITS_PER_BLOCK, metrics_per_user
from recjob.inference.embedding import embed_outfits
from recjob.inference.engine import Engine
from recjob.model.cold_start import Strategy, cold_start_vectors
from recjob.model.recommender import FEATURE_DIM

STRATEGIES: Final[tuple[Strategy, ...]] = ("avg", "w-avg")


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
    random negatives. A newcomer with too few outfits is left out. Newcomers are embedded block by
    block, so that memory does not grow with their number.

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
    rounds = [found for shown in protocol.shown for found in _rounds(lists, shown, protocol)]
    for block in _blocks(lists):
        own = EvaluationLists(lists.user[block], lists.items[block], 0)
        # Once for all draws and strategies: only the newcomers' vectors differ between them.
        vectors = embed_outfits(
            engine,
            features,
            own.items.reshape(-1, own.items.shape[2]),
            protocol.batch_size,
        ).reshape(*own.items.shape[:2], FEATURE_DIM)
        for found in rounds:
            found.measure(own, block, vectors, user_vectors, protocol)
    results = []
    for shown in protocol.shown:
        for strategy in STRATEGIES:
            means = [
                float(np.concatenate(found.aucs[strategy]).mean())
                for found in rounds
                if found.shown == shown
            ]
            if means:
                results.append(
                    ColdStartQuality(
                        shown,
                        strategy,
                        len(np.unique(lists.user[_with_more_than(lists, shown)])),
                        protocol.draws,
                        float(np.mean(means)),
                        float(np.std(means)),
                    )
                )
    return results


@dataclass(frozen=True)
class _Round:
    """One draw of what newcomers show, and the AUCs measured after it, block by block."""

    shown: int
    taking_part: BoolArray
    """(n,) lists of newcomers with enough of them."""
    profile: BoolArray
    """(n,) lists whose positive is shown; the others that take part are ranked."""
    aucs: dict[Strategy, list[NDArray[np.float64]]]

    def measure(
        self,
        lists: EvaluationLists,
        block: slice,
        vectors: Float32Array,
        user_vectors: Float32Array,
        protocol: ColdStartProtocol,
    ) -> None:
        """Add the AUC of each newcomer of `lists`, which are `block` of all; `vectors` theirs."""
        taking_part, profile = self.taking_part[block], self.profile[block]
        if not taking_part.any():
            return
        rank = taking_part & ~profile
        users, owner = np.unique(lists.user[profile], return_inverse=True)
        ranked = EvaluationLists(lists.user[rank], lists.items[rank], 0)
        for strategy, values in self.aucs.items():
            cold_vectors = cold_start_vectors(
                torch.from_numpy(user_vectors),
                torch.from_numpy(vectors[profile, 0]),
                torch.from_numpy(owner),
                users.size,
                strategy,
                protocol.threshold,
                protocol.temperature,
            ).numpy()
            own = cold_vectors[np.searchsorted(users, ranked.user)]
            scores = np.einsum("nd,nld->nl", own, vectors[rank])  # n: list, l: place, d: dimension
            values.append(metrics_per_user(ranked, scores).auc)


def _rounds(lists: EvaluationLists, shown: int, protocol: ColdStartProtocol) -> list[_Round]:
    """All draws of `shown` outfits; none where nobody has enough."""
    taking_part = _with_more_than(lists, shown)
    if not taking_part.any():
        return []
    _, owner = np.unique(lists.user[taking_part], return_inverse=True)
    rounds = []
    for draw in range(protocol.draws):
        rng = np.random.default_rng([protocol.seed, 17, shown, draw])
        profile = np.zeros(len(lists.user), np.bool_)
        profile[taking_part] = _draw(owner, shown, rng)
        rounds.append(_Round(shown, taking_part, profile, {name: [] for name in STRATEGIES}))
    return rounds


def _blocks(lists: EvaluationLists) -> Iterator[slice]:
    """Lists of whole newcomers, of so many outfits at most (or of one newcomer)."""
    most = max(1, OUTFITS_PER_BLOCK // lists.items.shape[1])
    # Lists are in the order of their users: `ends` are the places where a newcomer's end.
    ends = np.append(np.flatnonzero(np.diff(lists.user)) + 1, len(lists.user))
    start = 0
    while start < len(lists.user):
        first = np.searchsorted(ends, start, side="right")
        last = np.searchsorted(ends, start + most, side="right") - 1
        stop = int(ends[max(first, last)])
        yield slice(start, stop)
        start = stop


def _with_more_than(lists: EvaluationLists, shown: int) -> BoolArray:
    """(n,) lists of users who have more than `shown` of them."""
    _, place, count = np.unique(lists.user, return_inverse=True, return_counts=True)
    return np.asarray((count > shown)[place])


def _draw(owner: NDArray[np.int64], shown: int, rng: np.random.Generator) -> BoolArray:
    """(n,) True for `shown` random lists of every owner."""
    order = np.lexsort((rng.random(owner.size), owner))
    sizes = np.bincount(owner)
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.arange(owner.size) - np.repeat(start, sizes)
    profile = np.zeros(owner.size, np.bool_)
    profile[order] = rank < shown
    return profile
