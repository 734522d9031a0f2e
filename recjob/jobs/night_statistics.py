"""What a run looks like as a whole, and whether that is too far from the last run to be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING
from recjob.settings import LimitSettings
from recjob.store.run_lists import KINDS, VISITOR, RunLists

SCORE_EDGES: Final = np.linspace(-1.0, 1.0, 21)
"""Bins of the score histogram: cosines, in steps of 0.1."""
SMALLEST_SHARE: Final = 1e-4
"""Stands for an empty bin in the population stability index, which divides by it."""


class RunStatistics:
    """Counts over the lists of a run, shard by shard."""

    def __init__(self, model_id: str, n_outfits: int, n_candidates: int, shown: int) -> None:
        self._model_id = model_id
        self._n_candidates = n_candidates
        self._shown = shown
        self._listed = np.zeros(n_outfits, np.bool_)
        self._users = np.zeros(len(KINDS), np.int64)
        self._histogram = np.zeros(len(SCORE_EDGES) - 1, np.int64)
        self._score_sum = 0.0
        self._shortest: int | None = None
        self._short = 0

    def add(self, lists: RunLists, *, cosines: bool) -> None:
        """Count a part of the run; `cosines`: its scores are those of the model.

        Only the places that readers see count; visitors are no user.
        """
        users = lists.users != VISITOR
        outfits = lists.outfits[users, : self._shown]
        real = outfits != PADDING
        self._users += np.bincount(lists.kinds[users], minlength=len(KINDS))[: len(KINDS)]
        self._listed[outfits[real]] = True
        lengths = real.sum(axis=1)
        if len(lengths):
            shortest = int(lengths.min())
            self._shortest = shortest if self._shortest is None else min(self._shortest, shortest)
            self._short += int((lengths < self._shown).sum())
        if cosines:
            scores = lists.scores[users, : self._shown][real]
            inside = np.clip(scores, SCORE_EDGES[0], SCORE_EDGES[-1])
            self._histogram += np.histogram(inside, SCORE_EDGES)[0]
            self._score_sum += float(scores.sum(dtype=np.float64))

    def result(self) -> dict[str, Any]:
        """As `recommendation_run.statistics` keeps them."""
        n_scores = int(self._histogram.sum())
        distinct = int(self._listed.sum())
        return {
            "model": self._model_id,
            "lists": int(self._users.sum()),
            "users": {kind: int(n) for kind, n in zip(KINDS, self._users, strict=True)},
            "candidates": self._n_candidates,
            "outfits": distinct,
            "coverage": distinct / self._n_candidates if self._n_candidates else 0.0,
            "score_mean": self._score_sum / n_scores if n_scores else 0.0,
            "score_histogram": self._histogram.tolist(),
            "shortest_list": self._shortest or 0,
            "short_lists": self._short,
        }


def broken_limit(
    now: Mapping[str, Any], last: Mapping[str, Any] | None, limits: LimitSettings
) -> str | None:
    """Why a run with the statistics `now` is not shown after one with `last`; None: it may be."""
    if last is None or not last.get("lists"):
        return None
    fewest = math.floor((1 - limits.max_user_loss) * last["lists"])  # one may always go
    if now["lists"] < fewest:
        return (
            f"{now['lists']} lists instead of {last['lists']} "
            f"(limits.max_user_loss = {limits.max_user_loss:g})"
        )
    if now["coverage"] < (1 - limits.max_coverage_loss) * last["coverage"]:
        return (
            f"{now['coverage']:.1%} of the candidates are in a list instead of "
            f"{last['coverage']:.1%} (limits.max_coverage_loss = {limits.max_coverage_loss:g})"
        )
    if now["model"] == last["model"]:
        histograms = np.asarray([last["score_histogram"], now["score_histogram"]])
        shift = stability_index(*histograms)
        bins = int(histograms.any(axis=0).sum())
        if shift > limits.max_score_shift + chance_index(bins, last["lists"], now["lists"]):
            return (
                f"the scores' population stability index is {shift:.2f}, mean "
                f"{now['score_mean']:.3f} instead of {last['score_mean']:.3f} "
                f"(limits.max_score_shift = {limits.max_score_shift:g})"
            )
    return None


def score_shift(now: Mapping[str, Any], last: Mapping[str, Any] | None) -> dict[str, Any]:
    """`score_shift`, the index of a run's scores against those of the last run, and `same_model`.

    Both None where there is none to compare with. Models rank alike on different scales, so a new
    one shifts the scores without harm; a limit asks only where it is the same.
    """
    if last is None or "score_histogram" not in last:
        return {"score_shift": None, "same_model": None}
    histograms = np.asarray(last["score_histogram"]), np.asarray(now["score_histogram"])
    same = now["model"] == last["model"]
    return {"score_shift": stability_index(*histograms), "same_model": same}


def stability_index(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Population stability index of two histograms `(B,)` over the same bins.

    sum over bins of (q - p) ln(q / p) of the shares p and q; 0 where one of them is empty.
    """
    if before.sum() == 0 or after.sum() == 0:
        return 0.0
    p = np.maximum(before / before.sum(), SMALLEST_SHARE)
    q = np.maximum(after / after.sum(), SMALLEST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def chance_index(bins: int, before: int, after: int) -> float:
    """The index to expect of two samples of one distribution, (bins - 1) (1 / before + 1 / after).

    `before` and `after` are numbers of lists, since the scores of a list are much alike. So a
    small shop's chance fluctuations do not stop its nights.
    """
    return max(bins - 1, 0) * (1 / max(before, 1) + 1 / max(after, 1))
