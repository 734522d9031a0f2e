"""Part of `gate`: how well the candidate and the active student rank, on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from recjob.catalog.catalog import Float32Array, Int8Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.catalog.split import Part, part_positives
from recjob.errors import DataError, NotFiniteError, NotFoundError, RecjobError
from recjob.evaluation.agreement import rank_correlations
from recjob.evaluation.cold_start import cold_start_quality
from recjob.evaluation.comparison import PairedDifference, paired_differences
from recjob.evaluation.metrics import GroupedMetrics
from recjob.evaluation.protocol import metrics_per_user, model_scores, popularity_list_scores
from recjob.inference.model_files import StoredRecommender
from recjob.jobs.catalog_ranking import CatalogRanking, outfit_vectors
from recjob.jobs.evaluate import bootstrap_of, cold_start_protocol, lists_of_test_part
from recjob.jobs.gate_checks import Beside, Lead
from recjob.jobs.model_vectors import ModelVectors, model_vectors
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop, load_recommender_of
from recjob.store.models import ModelRow, model

NO_ACTIVE: Final = "there is no active student to stand beside"
NOBODY: Final = "nobody whom both students know has a positive in the test part"


@dataclass(frozen=True)
class Student:
    """One of the two, with its files."""

    row: ModelRow
    stored: StoredRecommender


@dataclass(frozen=True)
class OnTestPart:
    """Means over the users of the lists that a decision is made on."""

    auc: float
    ndcg_mean: float
    """Mean over every cutoff, as `evaluate` and the registry give it to Prometheus."""


class Ranking:
    """The candidate beside the active student on one shop.

    Its constructor raises DataError where nobody whom the candidate knows has a positive in the
    test part, NotFiniteError where the candidate's vectors are no numbers.
    """

    def __init__(
        self,
        context: JobContext,
        shop: Shop,
        parts: Int8Array,
        candidate: Student,
        active: Student | None,
    ) -> None:
        """`parts` (n_positives,) of the split; `active` None: there is no student in use."""
        self._context, self._shop, self._parts = context, shop, parts
        self._students = (candidate,) if active is None else (candidate, active)
        with context.stage("features") as stage:
            self._vectors: tuple[ModelVectors, ...] = (
                self._vectors_of(candidate.row, candidate.stored),
            )
            if active is not None:
                self._vectors += (self._of_active(active),)
            stage.items = len(self._students) * int(shop.catalog.item_usable.sum())
        kind = context.settings.evaluation.negatives
        known = self._vectors[0].users
        self._own_lists: EvaluationLists = lists_of_test_part(
            context, shop, parts, kind, known, "the candidate knows"
        )
        self._lists = self._vectors[-1].known(self._own_lists)

    @property
    def candidate(self) -> Student:
        """The one that the gate asks about."""
        return self._students[0]

    @property
    def active(self) -> Student | None:
        """The one in use; None: there is none."""
        return self._students[1] if len(self._students) > 1 else None

    @property
    def users(self) -> int:
        """Users known to both, with a test positive."""
        return len(np.unique(self._lists.user))

    @property
    def positives(self) -> int:
        """Their test positives."""
        return len(self._lists.user)

    def auc(self) -> Lead | str:
        """Beside the active student, user by user."""
        if len(self._students) == 1:
            return NO_ACTIVE
        if not self.positives:
            return NOBODY
        return self._lead(*self._metrics)

    def popularity(self) -> Lead | str:
        """Beside popularity, on the lists of all users whom the candidate knows."""
        training = part_positives(self._shop.catalog, self._parts, Part.TRAIN)
        lists = self._own_lists
        popular = popularity_list_scores(self._shop.catalog, training, lists)
        own = self._scores(self._vectors[0], lists)
        return self._lead(metrics_per_user(lists, own), metrics_per_user(lists, popular))

    def cold_start(self) -> Beside | str:
        """Mean AUC of newcomers to both students, over the numbers of outfits that they show."""
        if len(self._students) == 1:
            return NO_ACTIVE
        settings, catalog = self._context.settings, self._shop.catalog
        known = np.concatenate([vectors.users for vectors in self._vectors])
        cold = np.setdiff1d(catalog.positives[:, 0], known).astype(np.int32)
        if not cold.size:
            return "there is no newcomer to both students"
        means = []
        for vectors in self._vectors:
            found = cold_start_quality(
                vectors.engine,
                vectors.features,
                vectors.user_vectors,
                catalog,
                cold,
                cold_start_protocol(settings),
            )
            own = [row.auc for row in found if row.strategy == settings.cold_start.strategy]
            if not own:
                fewest = min(settings.evaluation.cold_start_outfits) + 1
                return f"none of {cold.size} newcomers has {fewest} or more outfits"
            means.append(float(np.mean(own)))
        return Beside(*means)

    def coverage(self) -> Beside | str:
        """Share of the outfits that are in somebody's best `evaluation.k`."""
        if len(self._students) == 1:
            return NO_ACTIVE
        if not self.positives:
            return NOBODY
        settings, catalog = self._context.settings, self._shop.catalog
        users = np.unique(self._lists.user).astype(np.int64)
        found = []
        for vectors in self._vectors:
            outfits = outfit_vectors(catalog, vectors, settings.embed.batch_size)
            ranking = CatalogRanking(catalog, self._parts, settings.evaluation.k, outfits)
            found.append(ranking.of_model(vectors, outfits, users).coverage)
        return Beside(*found)

    def agreement(self) -> Beside | str:
        """How alike each student and its own teacher rank the lists: means over the same users."""
        if len(self._students) == 1:
            return NO_ACTIVE
        if not self.positives:
            return NOBODY
        found = []
        teachers: dict[str, ModelVectors] = {}
        for student, scores in zip(self._students, self._list_scores, strict=True):
            teacher = self._teacher(student.row, teachers)
            if isinstance(teacher, str):
                return teacher
            found.append(self._correlations(teacher, scores))
        measured = np.isfinite(found).all(axis=0)
        if not measured.any():
            return "the teachers know none of the users whom both students know"
        return Beside(*np.stack(found)[:, measured].mean(axis=1).tolist())

    def on_test_part(self) -> Mapping[str, OnTestPart]:
        """AUC and ndcg_mean by model, on the lists that `auc` is measured on."""
        if not self.positives:
            return {}
        return {
            student.row.model_id: OnTestPart(float(own.auc.mean()), float(own.ndcg_mean.mean()))
            for student, own in zip(self._students, self._metrics, strict=True)
        }

    @cached_property
    def _list_scores(self) -> tuple[Float32Array, ...]:
        """Each student's scores (n, 1 + negatives) of the lists of users whom both know."""
        return tuple(self._scores(vectors, self._lists) for vectors in self._vectors)

    @cached_property
    def _metrics(self) -> tuple[GroupedMetrics, ...]:
        return tuple(metrics_per_user(self._lists, scores) for scores in self._list_scores)

    def _scores(self, vectors: ModelVectors, lists: EvaluationLists) -> Float32Array:
        return model_scores(
            vectors.engine,
            vectors.features,
            vectors.vectors_of(lists.user),
            lists,
            self._context.settings.embed.batch_size,
        )

    def _lead(self, own: GroupedMetrics, other: GroupedMetrics) -> Lead | str:
        n = len(own.group)
        if n == 1:
            return "one user is no sample"
        bootstrap = bootstrap_of(self._context.settings)
        differences = paired_differences(own, other, bootstrap)
        found: PairedDifference = next(row for row in differences if row.metric == "auc")
        # Without evaluation.bootstrap_draws the mean has to do.
        low = found.difference
        if found.interval is not None:
            low -= bootstrap.widening(n) * (found.difference - found.interval[0])
        return Lead(found.mean_a, found.mean_b, low)

    def _teacher(self, row: ModelRow, loaded: dict[str, ModelVectors]) -> ModelVectors | str:
        """The teacher of a student; a text: why there is none to look at."""
        if row.parent is None:
            return f"the registry does not know the teacher of {row.model_id}"
        if row.parent not in loaded:
            try:
                with self._context.database.connect() as connection:
                    teacher = model(connection, row.parent)
                stored = load_recommender_of(self._context, teacher)
                loaded[row.parent] = self._vectors_of(teacher, stored)
            except (NotFoundError, DataError, NotFiniteError) as error:
                return f"the teacher of {row.model_id} cannot be used: {error}"
        return loaded[row.parent]

    def _of_active(self, active: Student) -> ModelVectors:
        try:
            return self._vectors_of(active.row, active.stored)
        except NotFiniteError as error:  # no fault of the candidate's
            raise RecjobError(f"{active.row.model_id}, which is in use: {error}") from None

    def _vectors_of(self, row: ModelRow, stored: StoredRecommender) -> ModelVectors:
        return model_vectors(
            self._context.settings, self._shop.catalog, row.model_id, stored, row.role
        )

    def _correlations(self, teacher: ModelVectors, scores: Float32Array) -> Float32Array:
        """(users,) of every user of the lists; nan for those whom the teacher does not know.

        0 for those of whose outfits one of the two says nothing but that they are all the same.
        """
        known = teacher.row[self._lists.user] >= 0
        users = np.unique(self._lists.user)
        result = np.full(users.size, np.nan, np.float32)
        lists = teacher.known(self._lists)
        if len(lists.user):
            of_teacher = self._scores(teacher, lists)
            user = np.repeat(lists.user, scores.shape[1])
            group, found = rank_correlations(user, scores[known].ravel(), of_teacher.ravel())
            result[np.searchsorted(users, group)] = np.nan_to_num(found)
        return result
