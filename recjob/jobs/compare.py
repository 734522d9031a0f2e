"""Job `compare`: two models on the same stored lists, user by user."""

from __future__ import annotations

import numpy as np

from recjob.catalog.split import split_parts
from recjob.errors import UserError
from recjob.evaluation.comparison import PairedDifference, paired_differences
from recjob.inference.model_files import load_recommender
from recjob.jobs.evaluate import bootstrap_of, lists_of_test_part
from recjob.jobs.model_record import warn_of_other_split
from recjob.jobs.model_vectors import model_vectors
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import active_model, read_shop
from recjob.settings import NegativesKind
from recjob.store.models import ModelRow, model

ACTIVE = ("student", "teacher")
"""Words that stand for the active model of a role."""


class CompareResult(JobResult):
    """Model A beside model B."""

    a: str
    b: str
    users: int
    """Known to both models, with a test positive."""
    positives: int
    negatives: NegativesKind
    confidence: float
    """Of the intervals."""
    differences: tuple[PairedDifference, ...]


def compare(
    context: JobContext, first: str, second: str, negatives: NegativesKind | None = None
) -> CompareResult:
    """Rank the same lists by both models; each sees the pictures of its own size.

    Args:
        context: the job's.
        first: model A: its id, or "student" or "teacher" for the active one.
        second: model B, likewise.
        negatives: of the lists; None: `evaluation.negatives`.

    Raises NotFoundError for an unknown model, UserError for one that ranks nothing, DataError where
    the two have no user of the test part in common.
    """
    settings = context.settings
    negatives = negatives or settings.evaluation.negatives
    with context.stage("read"):
        rows = [_model(context, name) for name in (first, second)]
        shop = read_shop(context)
        catalog = shop.catalog
        parts = split_parts(catalog, settings.split)
        stored = [
            load_recommender(context.artifacts.model(row.model_id, row.sha256)) for row in rows
        ]
        context.freeze(a=rows[0].model_id, b=rows[1].model_id, negatives=negatives)
        for row in rows:
            warn_of_other_split(row.model_id, row.settings, settings)
    with context.stage("features") as stage:
        a, b = (
            model_vectors(settings, catalog, row.model_id, found, label)
            for row, found, label in zip(rows, stored, ("A", "B"), strict=True)
        )
        stage.items = 2 * int(catalog.item_usable.sum())
    users = np.intersect1d(a.users, b.users)
    lists = lists_of_test_part(context, shop, parts, negatives, users, "both models know")
    with context.stage("score") as stage:
        of_a, of_b = (side.metrics(lists, settings.embed.batch_size) for side in (a, b))
        stage.items = 2 * lists.items.shape[0] * lists.items.shape[1]
    with context.stage("compare"):
        differences = paired_differences(of_a, of_b, bootstrap_of(settings))
    return CompareResult(
        a=a.model_id,
        b=b.model_id,
        users=of_a.group.size,
        positives=len(lists.user),
        negatives=negatives,
        confidence=settings.evaluation.confidence,
        differences=differences,
    )


def _model(context: JobContext, name: str) -> ModelRow:
    if name in ACTIVE:
        return active_model(context, "student" if name == "student" else "teacher")
    with context.database.connect() as connection:
        row = model(connection, name)
    if row.role not in ACTIVE:
        raise UserError(f"model {name!r} is an {row.role}, which ranks nothing; name a recommender")
    return row
