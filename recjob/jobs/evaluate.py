"""Job `evaluate`: student, teacher, popularity and chance on the test part, and more on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recjob.catalog.catalog import Catalog, Int8Array, Int32Array, Int64Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.catalog.split import Part, part_positives, split_parts, training_counts
from recjob.errors import DataError
from recjob.evaluation.bootstrap import Bootstrap, Interval
from recjob.evaluation.cold_start import ColdStartProtocol, cold_start_quality
from recjob.evaluation.full_ranking import ListQuality
from recjob.evaluation.metrics import GroupedMetrics
from recjob.evaluation.protocol import (
    metrics_per_user,
    popularity_list_scores,
    random_list_scores,
)
from recjob.jobs.catalog_ranking import CatalogRanking, outfit_vectors
from recjob.jobs.evaluation_sets import stored_lists
from recjob.jobs.model_record import of_other_split, warn_of_other_split
from recjob.jobs.model_vectors import ModelVectors, model_vectors
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.truth import TruthResult, measure_truth
from recjob.jobs.workspace import Shop, load_active_recommender, read_student_shop
from recjob.settings import NegativesKind, Settings


class MethodQuality(BaseModel):
    """A method on the test part: means over users, with intervals by resampling users."""

    model_config = ConfigDict(frozen=True)

    method: str
    auc: float
    ndcg_mean: float
    """NDCG averaged over every cutoff, the paper's."""
    ndcg: float
    auc_interval: Interval | None = None
    """None without `evaluation.bootstrap_draws`, as are the others."""
    ndcg_mean_interval: Interval | None = None
    ndcg_interval: Interval | None = None
    recall: float
    """Of the k best of all outfits: share of a user's test positives that are among them."""
    recall_interval: Interval | None = None
    coverage: float
    """Share of all outfits that are in some list."""
    novelty: float | None
    """Bits: mean -log2 of the popularity share of the recommended items."""
    diversity: float | None
    """1 - mean cosine of the outfits of a list, in the student's vectors for every method."""


class GroupQuality(BaseModel):
    """A method for users with so many training positives."""

    model_config = ConfigDict(frozen=True)

    method: str
    training_positives: str
    """From and to, as in "20-49"."""
    users: int
    auc: float
    ndcg_mean: float
    ndcg: float
    recall: float


class ColdStartRow(BaseModel):
    """Newcomers who show so many outfits."""

    model_config = ConfigDict(frozen=True)

    outfits: int
    strategy: str
    users: int
    draws: int
    auc: float
    auc_deviation: float


class EvaluateResult(JobResult):
    """Quality on the test part."""

    student: str
    teacher: str
    users: int
    positives: int
    left_out: int
    """Test positives without a list: an item in quarantine, or no negatives for them."""
    negatives: NegativesKind
    negatives_per_positive: int
    k: int
    """Length of the lists over the whole catalog."""
    candidates: int
    """Outfits that such a list could hold."""
    quality: tuple[MethodQuality, ...]
    groups: tuple[GroupQuality, ...]
    cold_start: tuple[ColdStartRow, ...]
    truth: TruthResult | None = None


@dataclass(frozen=True)
class _Measured:
    """A method's values of every user who has a test positive."""

    method: str
    users: Int64Array
    """(U,) catalog users, ascending."""
    values: NDArray[np.float64]
    """(U, 4) AUC, ndcg_mean, ndcg and recall."""
    lists: ListQuality


def evaluate(
    context: JobContext,
    *,
    negatives: NegativesKind | None = None,
    cold_start: bool = False,
    truth: bool = False,
    truth_file: Path | None = None,
    judged_file: Path | None = None,
) -> EvaluateResult:
    """Rank the same lists, and the whole catalog, by every method.

    Args:
        context: the job's.
        negatives: of the lists; None: `evaluation.negatives`.
        cold_start: also rank the newcomers' outfits.
        truth: also hold the teacher's d < 0 against what users truly like.
        truth_file: with `truth`: that truth, by somebody who knows it.
        judged_file: with `truth`: where to write what the teacher judged.
    """
    settings = context.settings
    negatives = negatives or settings.evaluation.negatives
    with context.stage("read"):
        shop, student_row, stored_student = read_student_shop(context)
        teacher_row, stored_teacher = load_active_recommender(context, "teacher")
        catalog = shop.catalog
        parts = split_parts(catalog, settings.split)
        context.freeze(
            student=student_row.model_id, teacher=teacher_row.model_id, negatives=negatives
        )
        for model in (student_row, teacher_row):
            warn_of_other_split(model.model_id, model.settings, settings)
    with context.stage("features") as stage:
        student, teacher = (
            model_vectors(settings, catalog, row.model_id, stored, row.role)
            for row, stored in ((student_row, stored_student), (teacher_row, stored_teacher))
        )
        stage.items = 2 * int(catalog.item_usable.sum())
    lists = lists_of_test_part(context, shop, parts, negatives, student.users, "the student knows")
    with context.stage("score") as stage:
        models = {"student": student, "teacher": teacher}
        measured = tuple(_measure(settings, catalog, parts, lists, models))
        stage.items = lists.items.shape[0] * lists.items.shape[1]
    cold_rows: tuple[ColdStartRow, ...] = ()
    if cold_start:
        with context.stage("cold start"):
            cold_rows = _cold_start(settings, catalog, student)
    truth_result = None
    if truth:
        with context.stage("truth"):
            truth_result = measure_truth(settings, catalog, parts, teacher, truth_file, judged_file)
    bootstrap = bootstrap_of(settings)
    counts = training_counts(catalog, parts)
    quality = tuple(_row(method, bootstrap) for method in measured)
    if negatives == settings.evaluation.negatives:  # on other lists it is another figure
        ids = {
            model.role: model.model_id
            for model in (student_row, teacher_row)
            if not of_other_split(model.settings, settings)
        }
        for row in quality:
            if row.method in ids:
                context.metrics.test_quality(row.method, ids[row.method], row.auc, row.ndcg_mean)
    return EvaluateResult(
        student=student.model_id,
        teacher=teacher.model_id,
        users=len(np.unique(lists.user)),
        positives=len(lists.user),
        left_out=lists.left_out,
        negatives=negatives,
        negatives_per_positive=lists.items.shape[1] - 1,
        k=settings.evaluation.k,
        candidates=int(catalog.outfit_usable.sum()),
        quality=quality,
        groups=tuple(_groups(measured, counts, settings.evaluation.group_borders)),
        cold_start=cold_rows,
        truth=truth_result,
    )


def bootstrap_of(settings: Settings) -> Bootstrap:
    """The resampling that the settings ask for."""
    evaluation = settings.evaluation
    return Bootstrap(evaluation.bootstrap_draws, evaluation.confidence, settings.seed)


def cold_start_protocol(settings: Settings) -> ColdStartProtocol:
    """How the settings want newcomers measured."""
    return ColdStartProtocol(
        shown=settings.evaluation.cold_start_outfits,
        draws=settings.evaluation.cold_start_draws,
        n_negatives=settings.evaluation.negatives_per_positive,
        threshold=settings.cold_start.threshold,
        temperature=settings.cold_start.temperature,
        seed=settings.seed,
        batch_size=settings.embed.batch_size,
    )


def lists_of_test_part(
    context: JobContext,
    shop: Shop,
    parts: Int8Array,
    negatives: NegativesKind,
    users: Int32Array,
    who: str,
) -> EvaluationLists:
    """The stored test lists of users (n,), those whom `who`; DataError where they have none."""
    lists = stored_lists(context, shop, parts, Part.TEST, negatives, users)
    if len(lists.user) == 0:
        raise DataError(
            f"no user whom {who} has a positive in the test part; import more interactions, or "
            "give split.test a larger share"
        )
    return lists


def _measure(
    settings: Settings,
    catalog: Catalog,
    parts: Int8Array,
    lists: EvaluationLists,
    models: Mapping[str, ModelVectors],
) -> Iterator[_Measured]:
    """Each model on the lists of the users that it knows, then popularity and chance on all."""
    batch_size = settings.embed.batch_size
    outfits = {name: outfit_vectors(catalog, model, batch_size) for name, model in models.items()}
    ranking = CatalogRanking(catalog, parts, settings.evaluation.k, outfits["student"])
    for name, model in models.items():
        known = model.known(lists)
        metrics = model.metrics(known, batch_size)
        ranked = ranking.of_model(model, outfits[name], metrics.group)
        yield _measured(name, metrics, ranked)
    training = part_positives(catalog, parts, Part.TRAIN)
    metrics = metrics_per_user(lists, popularity_list_scores(catalog, training, lists))
    yield _measured("popularity", metrics, ranking.of_popularity(metrics.group))
    metrics = metrics_per_user(lists, random_list_scores(lists, settings.seed))
    yield _measured("random", metrics, ranking.of_chance(metrics.group, settings.seed))


def _measured(name: str, metrics: GroupedMetrics, lists: ListQuality) -> _Measured:
    values = [metrics.auc, metrics.ndcg_mean, metrics.ndcg, lists.recall]
    return _Measured(name, metrics.group, np.stack(values, axis=1), lists)


def _row(measured: _Measured, bootstrap: Bootstrap) -> MethodQuality:
    auc, ndcg_mean, ndcg, recall = measured.values.mean(axis=0).tolist()
    intervals = bootstrap.intervals(measured.values)
    diversity = measured.lists.diversity[np.isfinite(measured.lists.diversity)]
    novelty = measured.lists.novelty_bits
    return MethodQuality(
        method=measured.method,
        auc=auc,
        ndcg_mean=ndcg_mean,
        ndcg=ndcg,
        auc_interval=intervals[0],
        ndcg_mean_interval=intervals[1],
        ndcg_interval=intervals[2],
        recall=recall,
        recall_interval=intervals[3],
        coverage=measured.lists.coverage,
        novelty=novelty if np.isfinite(novelty) else None,
        diversity=float(diversity.mean()) if diversity.size else None,
    )


def _groups(
    measured: Sequence[_Measured], training: Int64Array, borders: Sequence[int]
) -> Iterator[GroupQuality]:
    """Means of each group of users that has any; `training` (n_users,) positives."""
    edges = sorted({border for border in borders if border > 0})
    starts, ends = [0, *edges], [*(edge - 1 for edge in edges), None]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        name = f"{start} or more" if end is None else f"{start}-{end}"
        for method in measured:
            own = np.searchsorted(edges, training[method.users], side="right") == number
            if not own.any():
                continue
            auc, ndcg_mean, ndcg, recall = method.values[own].mean(axis=0).tolist()
            yield GroupQuality(
                method=method.method,
                training_positives=name,
                users=int(own.sum()),
                auc=auc,
                ndcg_mean=ndcg_mean,
                ndcg=ndcg,
                recall=recall,
            )


def _cold_start(
    settings: Settings, catalog: Catalog, student: ModelVectors
) -> tuple[ColdStartRow, ...]:
    cold = np.setdiff1d(catalog.positives[:, 0], student.users).astype(np.int32)
    if cold.size == 0:
        raise DataError(
            "there is no cold starter: the student has a vector for every user with outfits; "
            "import newcomers first"
        )
    protocol = cold_start_protocol(settings)
    results = cold_start_quality(
        student.engine, student.features, student.user_vectors, catalog, cold, protocol
    )
    if not results:
        fewest = min(protocol.shown) + 1
        raise DataError(
            f"none of the {cold.size} cold starters has {fewest} or more outfits, which the "
            "evaluation needs; import more of their interactions"
        )
    return tuple(ColdStartRow(**asdict(result)) for result in results)
