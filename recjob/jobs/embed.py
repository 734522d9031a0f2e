"""Job `embed`: vectors of every item, outfit and user into Postgres and a FAISS file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recjob.catalog.catalog import Float32Array, Int32Array
from recjob.jobs.embedding_keys import Changes
from recjob.jobs.embeddings import Embeddings, refresh_embeddings
from recjob.jobs.home import INDEXES_FOLDER
from recjob.jobs.patience import patiently
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop, read_student_shop
from recjob.ranking.index import description_file
from recjob.ranking.index_build import build_index
from recjob.store.embeddings import (
    Entity,
    drop_unused_embeddings,
    embedded_keys,
    embedding_set,
    mark_loaded,
    update_embeddings,
    write_embeddings,
)

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
    rows_written: int
    """Rows of Postgres that were written; the others were right."""
    index: str
    """The FAISS file."""
    index_kind: str
    index_recall: float
    """Share of the exact best outfits that the index finds."""
    index_built: bool
    """False where neither the outfits nor the settings of the index had changed."""


def embed(context: JobContext) -> EmbedResult:
    """Bring the active student's vectors up to date, in the artifact, Postgres and FAISS.

    Raises RefusedError where the index finds less than `index.recall_floor` asks for; the index
    before stays.
    """
    settings = context.settings
    with context.stage("read"):
        shop, row, stored = read_student_shop(context)
        context.freeze(model=row.model_id)
    vectors = refresh_embeddings(context, row, stored, shop)
    catalog = shop.catalog
    outfits = np.flatnonzero(catalog.outfit_usable)
    users, user_rows = warm_rows(shop, stored.user_ids)
    user_vectors = vectors.users[user_rows]
    with context.stage("postgres") as stage:
        keys = shop.keys.users[users]
        stage.items = rows_written = patiently(
            context, lambda: _load(context, row.model_id, shop, vectors, keys, user_vectors)
        )
    with context.stage("index") as stage:
        index = build_index(
            index_path(context, row.model_id),
            vectors.outfits[outfits],
            [catalog.outfit_ids[outfit] for outfit in outfits],
            user_vectors,
            settings.nightly.k,
            settings.index,
            settings.seed,
        )
        if index.built:
            stage.items = index.n_outfits
            context.artifacts.share(index.path)
            context.artifacts.share(description_file(index.path))
    return EmbedResult(
        model=row.model_id,
        engine=vectors.engine,
        reason=vectors.reason,
        items=int(catalog.item_usable.sum()),
        outfits=outfits.size,
        users=users.size,
        new_items=vectors.new_items,
        new_outfits=vectors.new_outfits,
        rows_written=rows_written,
        index=str(index.path),
        index_kind=index.kind,
        index_recall=index.recall,
        index_built=index.built,
    )


def _load(
    context: JobContext,
    model_id: str,
    shop: Shop,
    vectors: Embeddings,
    user_keys: Int32Array,
    user_vectors: Float32Array,
) -> int:
    """Write into Postgres what changed, in one transaction; the number of rows written.

    Where Postgres holds another file than the one that this job started from (one was saved, and
    the job killed before it was loaded), all items and outfits are written anew. A user's vector
    never changes under a model, so only those are written that have none.
    """
    written = 0
    with context.database.begin() as connection:
        entry = embedding_set(connection, model_id)
        loaded = None if entry is None else entry.loaded_sha256
        tables: tuple[tuple[Entity, Changes, Int32Array, Float32Array], ...] = (
            ("item", vectors.item_changes, shop.keys.items, vectors.features),
            ("outfit", vectors.outfit_changes, shop.keys.outfits, vectors.outfits),
        )
        usable = {"item": shop.catalog.item_usable, "outfit": shop.catalog.outfit_usable}
        for entity, changed, keys, values in tables:
            if loaded is not None and loaded == vectors.sha256_before:
                written += update_embeddings(
                    connection,
                    entity,
                    model_id,
                    changed.gone,
                    keys[changed.new],
                    values[changed.new],
                )
            else:
                rows = np.flatnonzero(usable[entity])
                written += write_embeddings(connection, entity, model_id, keys[rows], values[rows])
        if loaded != vectors.sha256:
            mark_loaded(connection, model_id, vectors.sha256)
        there = embedded_keys(connection, "user", model_id)
        missing = ~np.isin(user_keys, there)
        written += update_embeddings(
            connection,
            "user",
            model_id,
            np.setdiff1d(there, user_keys),
            user_keys[missing],
            user_vectors[missing],
        )
        drop_unused_embeddings(connection)
    return written


def index_path(context: JobContext, model_id: str) -> Path:
    """Where the index of a model's outfits is."""
    return context.artifacts.root / INDEXES_FOLDER / model_id / INDEX_FILE


def warm_rows(shop: Shop, user_ids: tuple[str, ...]) -> tuple[Int32Array, Int32Array]:
    """Catalog users that the model has a vector for, ascending, and their rows in the model."""
    row_of = {user_id: row for row, user_id in enumerate(user_ids)}
    rows = np.array([row_of.get(user_id, -1) for user_id in shop.catalog.user_ids], np.int32)
    users = np.flatnonzero(rows >= 0).astype(np.int32)
    return users, rows[users]
