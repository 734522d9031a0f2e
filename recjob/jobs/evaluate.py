"""Job `evaluate`: AUC and NDCG of student, teacher, popularity and chance on the test part."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from recjob.catalog.catalog import Float32Array
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import DataError
from recjob.evaluation.cold_start import ColdStartProtocol, cold_start_quality
from recjob.evaluation.protocol import (
    Quality,
    model_scores,
    popularity_list_scores,
    quality,
    random_list_scores,
)
from recjob.inference.embedding import embed_items, unit
from recjob.inference.model_files import StoredRecommender
from recjob.inference.torch_engine import TorchEngine
from recjob.jobs.embed import warm_rows
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop, load_active_recommender, read_student_shop
from recjob.model.recommender import FEATURE_DIM
from recjob.training.compute import choose_compute


class MethodQuality(BaseModel):
    """Means over users on the same lists."""

    model_config = ConfigDict(frozen=True)

    method: str
    auc: float
    ndcg_mean: float
    """NDCG averaged over every cutoff, the paper's."""
    ndcg: float


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
    negatives_per_positive: int
    quality: tuple[MethodQuality, ...]
    cold_start: tuple[ColdStartRow, ...]


def evaluate(context: JobContext, cold_start: bool = False) -> EvaluateResult:
    """Rank the same lists by every method; with `cold_start` also the newcomers' outfits."""
    settings = context.settings
    with context.stage("read"):
        shop, student_row, student = read_student_shop(context)
        parts = split_parts(shop.catalog, settings.split)
        teacher_row, teacher = load_active_recommender(context, "teacher")
        if teacher.image_size != student.image_size:
            raise DataError(
                f"teacher {teacher_row.model_id} was trained on pictures of {teacher.image_size} "
                f"pixels, student {student_row.model_id} on {student.image_size}; distil the "
                "student anew"
            )
    rows: list[MethodQuality] = []
    scored: dict[str, tuple[TorchEngine, Float32Array, Float32Array]] = {}
    lists = _lists(context, shop, parts, student)
    with context.stage("score") as stage:
        for role, stored in (("student", student), ("teacher", teacher)):
            engine, features, vectors = _vectors(context, shop, stored, role)
            scored[role] = engine, features, vectors
            kept, user_vectors = _of_known_users(shop, stored, lists, vectors)
            scores = model_scores(engine, features, user_vectors, kept, settings.embed.batch_size)
            rows.append(_row(role, quality(kept, scores)))
        training = part_positives(shop.catalog, parts, Part.TRAIN)
        popularity = popularity_list_scores(shop.catalog, training, lists)
        rows.append(_row("popularity", quality(lists, popularity)))
        rows.append(_row("random", quality(lists, random_list_scores(lists, settings.seed))))
        stage.items = lists.items.shape[0] * lists.items.shape[1]
    cold_rows: tuple[ColdStartRow, ...] = ()
    if cold_start:
        with context.stage("cold start"):
            cold_rows = _cold_start(context, shop, student, scored["student"])
    return EvaluateResult(
        student=student_row.model_id,
        teacher=teacher_row.model_id,
        users=len(np.unique(lists.user)),
        positives=len(lists.user),
        negatives_per_positive=settings.evaluation.negatives_per_positive,
        quality=tuple(rows),
        cold_start=cold_rows,
    )


def _lists(
    context: JobContext, shop: Shop, parts: np.typing.NDArray[np.int8], student: StoredRecommender
) -> EvaluationLists:
    """The test lists of the users that the student knows."""
    users, _ = warm_rows(shop, student.user_ids)
    settings = context.settings
    lists = evaluation_lists(
        shop.catalog,
        parts,
        Part.TEST,
        settings.evaluation.negatives_per_positive,
        settings.seed,
        users=users,
    )
    if len(lists.user) == 0:
        raise DataError(
            "no user of the student has a positive in the test part; import more interactions, "
            "or give split.test a larger share"
        )
    return lists


def _vectors(
    context: JobContext, shop: Shop, stored: StoredRecommender, label: str
) -> tuple[TorchEngine, Float32Array, Float32Array]:
    """Engine, item features `(n_items, 128)` and unit user vectors `(n, 128)` of a model."""
    compute = choose_compute(context.settings.compute)
    engine = TorchEngine(stored.model, compute.device, compute.bf16)
    usable = np.flatnonzero(shop.catalog.item_usable)
    features = np.zeros((shop.catalog.n_items, FEATURE_DIM), np.float32)
    with progress_bar(f"{label} features", usable.size) as bar:
        features[usable] = embed_items(
            engine,
            shop.pictures.pixels,
            shop.picture_rows[usable],
            context.settings.embed.batch_size,
            bar.by,
        )
    return engine, features, unit(stored.model.users.weight.detach().float().cpu().numpy())


def _of_known_users(
    shop: Shop, stored: StoredRecommender, lists: EvaluationLists, vectors: Float32Array
) -> tuple[EvaluationLists, Float32Array]:
    """The lists of users that a model knows, and the vector of each list's user."""
    users, rows = warm_rows(shop, stored.user_ids)
    kept = np.isin(lists.user, users)
    known = EvaluationLists(lists.user[kept], lists.items[kept], lists.left_out)
    return known, vectors[rows[np.searchsorted(users, known.user)]]


def _cold_start(
    context: JobContext,
    shop: Shop,
    student: StoredRecommender,
    scored: tuple[TorchEngine, Float32Array, Float32Array],
) -> tuple[ColdStartRow, ...]:
    settings = context.settings
    warm, _ = warm_rows(shop, student.user_ids)
    cold = np.setdiff1d(shop.catalog.positives[:, 0], warm).astype(np.int32)
    if cold.size == 0:
        raise DataError(
            "there is no cold starter: the student has a vector for every user with outfits; "
            "import newcomers first"
        )
    engine, features, vectors = scored
    protocol = ColdStartProtocol(
        shown=settings.evaluation.cold_start_outfits,
        draws=settings.evaluation.cold_start_draws,
        n_negatives=settings.evaluation.negatives_per_positive,
        threshold=settings.cold_start.threshold,
        temperature=settings.cold_start.temperature,
        seed=settings.seed,
        batch_size=settings.embed.batch_size,
    )
    results = cold_start_quality(engine, features, vectors, shop.catalog, cold, protocol)
    if not results:
        fewest = min(protocol.shown) + 1
        raise DataError(
            f"none of the {cold.size} cold starters has {fewest} or more outfits, which the "
            "evaluation needs; import more of their interactions"
        )
    return tuple(
        ColdStartRow(
            outfits=result.outfits,
            strategy=result.strategy,
            users=result.users,
            draws=result.draws,
            auc=result.auc,
            auc_deviation=result.auc_deviation,
        )
        for result in results
    )


def _row(method: str, result: Quality) -> MethodQuality:
    return MethodQuality(
        method=method, auc=result.auc, ndcg_mean=result.ndcg_mean, ndcg=result.ndcg
    )
