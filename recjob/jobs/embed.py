"""Job `embed`: vectors of every item, outfit and user into Postgres and a FAISS file."""

from __future__ import annotations

import numpy as np

from recjob.catalog.catalog import Float32Array, Int32Array
from recjob.jobs.embeddings import refresh_embeddings
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop, read_student_shop
from recjob.ranking.index_build import IndexFile, build_index
from recjob.store.embeddings import Entity, write_embeddings

INDEXES_FOLDER = "indexes"
INDEX_FILE = "outfits.faiss"


class EmbedResult(JobResult):
    """What was embedded."""

    model: str
    engine: str
    reason: str
    """Why this engine."""
    items: int
    outfits: int
    users: int
    new_items: int
    """Items whose features were computed now; the others were kept."""
    new_outfits: int
    index: str
    """The FAISS file."""
    index_recall: float
    """Share of the exact best outfits that the index finds."""


def embed(context: JobContext) -> EmbedResult:
    """Bring the active student's vectors up to date, in the artifact, Postgres and FAISS."""
    with context.stage("read"):
        shop, row, stored = read_student_shop(context)
        context.freeze(model=row.model_id)
    vectors = refresh_embeddings(context, row, stored, shop)
    catalog = shop.catalog
    items = np.flatnonzero(catalog.item_usable)
    outfits = np.flatnonzero(catalog.outfit_usable)
    users, user_rows = warm_rows(shop, stored.user_ids)
    user_vectors = vectors.users[user_rows]
    with context.stage("postgres") as stage, context.database.begin() as connection:
        vectors_of: tuple[tuple[Entity, Int32Array, Float32Array], ...] = (
            ("item", shop.keys.items[items], vectors.features[items]),
            ("outfit", shop.keys.outfits[outfits], vectors.outfits[outfits]),
            ("user", shop.keys.users[users], user_vectors),
        )
        for entity, keys, values in vectors_of:
            stage.items += write_embeddings(connection, entity, row.model_id, keys, values)
    with context.stage("index") as stage:
        index: IndexFile = build_index(
            context.artifacts.root / INDEXES_FOLDER / row.model_id / INDEX_FILE,
            vectors.outfits[outfits],
            [catalog.outfit_ids[outfit] for outfit in outfits],
            user_vectors,
            context.settings.nightly.k,
        )
        stage.items = index.n_outfits
    return EmbedResult(
        model=row.model_id,
        engine=vectors.engine,
        reason=vectors.reason,
        items=items.size,
        outfits=outfits.size,
        users=users.size,
        new_items=vectors.new_items,
        new_outfits=vectors.new_outfits,
        index=str(index.path),
        index_recall=index.recall,
    )


def warm_rows(shop: Shop, user_ids: tuple[str, ...]) -> tuple[Int32Array, Int32Array]:
    """Catalog users that the model has a vector for, ascending, and their rows in the model."""
    row_of = {user_id: row for row, user_id in enumerate(user_ids)}
    rows = np.array([row_of.get(user_id, -1) for user_id in shop.catalog.user_ids], np.int32)
    users = np.flatnonzero(rows >= 0).astype(np.int32)
    return users, rows[users]
