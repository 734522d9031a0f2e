"""A student's vectors of the whole catalog: computed where new, kept as one float32 file."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recjob.catalog.catalog import BoolArray, Float32Array, Int64Array
from recjob.catalog.hashing import file_sha256
from recjob.errors import NotFoundError
from recjob.inference.embedding import Timer, embed_items, embed_outfits, user_unit_vectors
from recjob.inference.engine import Engine
from recjob.inference.model_files import StoredRecommender
from recjob.inference.tensor_files import writing_tensors
from recjob.jobs.compiled import embedding_engine
from recjob.jobs.embedding_keys import (
    Changes,
    Held,
    UInt8Array,
    changes,
    outfit_keys,
    picture_keys,
    places,
)
from recjob.jobs.embedding_ray import Arrays, EmbeddingCluster, outfit_batch, picture_batch
from recjob.jobs.embedding_shards import Leftovers, What, vectors_in_shards
from recjob.jobs.patience import patiently
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.model.recommender import FEATURE_DIM
from recjob.monitoring.definitions import EMBEDDING_SECONDS, ENGINE
from recjob.store.embeddings import embedding_set, register_embedding_set
from recjob.store.ledger import hold_lease
from recjob.store.models import ModelRow
from recjob.training.compute import choose_compute

FILE_PREFIX: Final = "embeddings"
"""The file of each run has a name of its own: the registered one stays as it is until the new one
is registered, whenever a kill comes."""

REMEDY: Final = "remove it, and the next `embed` computes all vectors again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """Vectors of a catalog under one student."""

    features: Float32Array
    """(n_items, 128) item features; zeros in quarantine."""
    outfits: Float32Array
    """(n_outfits, 128) unit vectors; zeros where an item is in quarantine."""
    users: Float32Array
    """(n_warm, 128) unit vectors, in the order of the student's rows."""
    encoder: Engine
    """What computed them, for what else is to be embedded."""
    engine: str
    reason: str
    """Why this engine."""
    new_items: int
    new_outfits: int
    sha256: str
    """Of the file that holds them."""
    sha256_before: str | None
    """Of the file that was there before; None where there was none."""
    item_changes: Changes
    """Between the two files; everything, where there was none that can be compared."""
    outfit_changes: Changes


@dataclass(frozen=True)
class _Kept:
    """What the last file holds."""

    sha256: str
    items: Held
    features: Float32Array
    outfits: Held
    vectors: Float32Array
    numbered: bool
    """False in files of earlier versions, which do not say whose vectors they hold."""


def refresh_embeddings(
    context: JobContext, row: ModelRow, stored: StoredRecommender, shop: Shop
) -> Embeddings:
    """The student's vectors of the catalog as it is now; only what is missing is computed.

    An item is known by the content of its picture, an outfit by its items' pictures. A job that
    was killed goes on after its last finished shard. The file is written anew where anything
    changed.

    Raises NotFiniteError where a vector is not finite.
    """
    catalog = shop.catalog
    users = user_unit_vectors(stored.model)
    items = Held(shop.keys.items, picture_keys(catalog))
    outfits = Held(shop.keys.outfits, outfit_keys(catalog))
    kept = _kept(context, row)
    features, new_items = _known(
        items.keys,
        catalog.item_usable,
        None if kept is None else (kept.items.keys, kept.features),
    )
    vectors, new_outfits = _known(
        outfits.keys,
        catalog.outfit_usable,
        None if kept is None else (kept.outfits.keys, kept.vectors),
    )
    compute = choose_compute(context.settings.compute)
    chosen = embedding_engine(context, row, stored, compute)
    log.info("embedding runs on %s: %s", chosen.engine.name, chosen.reason)
    context.metrics.set(
        ENGINE, 1, model=row.model_id, engine=chosen.kind, precision=chosen.precision
    )

    def timer(kind: What) -> Timer:
        """Counts what a batch takes."""
        labels = {"kind": kind.removesuffix("s"), "engine": chosen.kind}
        return lambda seconds: context.metrics.observe(EMBEDDING_SECONDS, seconds, **labels)

    leftovers = Leftovers.of(context, row.model_id, chosen.engine.name)
    batch_size = context.settings.embed.batch_size
    cluster = None
    if context.settings.nightly.engine == "ray":
        cluster = EmbeddingCluster.of(context, leftovers, row, compute, timer)
    if new_items.size:
        with context.stage("item features") as stage, progress_bar("items", new_items.size) as bar:

            def item_features(part: Int64Array) -> Float32Array:
                rows = shop.picture_rows[new_items[part]]
                return embed_items(
                    chosen.engine, shop.pictures.pixels, rows, batch_size, bar.by, timer("items")
                )

            def item_inputs(part: Int64Array) -> Arrays:
                return picture_batch(shop.pictures.pixels, shop.picture_rows[new_items[part]])

            keys = items.keys[new_items]
            features[new_items] = vectors_in_shards(
                context,
                leftovers,
                "items",
                keys,
                item_features,
                None if cluster is None else cluster.doing("items", keys, item_inputs, bar.by),
            )
            stage.items = int(new_items.size)
    if new_outfits.size:
        with (
            context.stage("outfit vectors") as stage,
            progress_bar("outfits", new_outfits.size) as bar,
        ):

            def outfit_vectors(part: Int64Array) -> Float32Array:
                worn = catalog.outfit_items[new_outfits[part]]
                return embed_outfits(
                    chosen.engine, features, worn, batch_size, bar.by, timer("outfits")
                )

            def outfit_inputs(part: Int64Array) -> Arrays:
                return outfit_batch(features, catalog.outfit_items[new_outfits[part]])

            keys = outfits.keys[new_outfits]
            vectors[new_outfits] = vectors_in_shards(
                context,
                leftovers,
                "outfits",
                keys,
                outfit_vectors,
                None if cluster is None else cluster.doing("outfits", keys, outfit_inputs, bar.by),
            )
            stage.items = int(new_outfits.size)
    before = kept if kept is not None and kept.numbered else None
    if before is None or not (_same(before.items, items) and _same(before.outfits, outfits)):
        with context.stage("save vectors"):
            sha256 = _save(context, row, features, vectors, items, outfits)
    else:
        sha256 = before.sha256
    leftovers.remove()
    return Embeddings(
        features=features,
        outfits=vectors,
        users=users,
        encoder=chosen.engine,
        engine=chosen.engine.name,
        reason=chosen.reason,
        new_items=int(new_items.size),
        new_outfits=int(new_outfits.size),
        sha256=sha256,
        sha256_before=None if kept is None else kept.sha256,
        item_changes=changes(None if before is None else before.items, items),
        outfit_changes=changes(None if before is None else before.outfits, outfits),
    )


def _known(
    keys: UInt8Array,
    usable: BoolArray,
    kept: tuple[UInt8Array, Float32Array] | None,
) -> tuple[Float32Array, Int64Array]:
    """Vectors `(n, 128)`, zeros where none is kept, and the usable rows that lack one."""
    vectors = np.zeros((len(keys), FEATURE_DIM), np.float32)
    if kept is None:
        return vectors, np.flatnonzero(usable)
    kept_keys, kept_vectors = kept
    row = places(keys, kept_keys)
    known = usable & (row >= 0)
    vectors[known] = kept_vectors[row[known]]
    return vectors, np.flatnonzero(usable & ~known)


def _kept(context: JobContext, row: ModelRow) -> _Kept | None:
    """What the last file holds; None where there is none, or none any more."""
    with context.database.connect() as connection:
        entry = embedding_set(connection, row.model_id)
    if entry is None:
        return None
    try:
        path = context.artifacts.file(row.model_id, entry.file, entry.sha256, REMEDY)
    except NotFoundError as error:  # also after a restore, where a later run had replaced it
        log.warning("%s; all vectors are computed again", error)
        return None
    old = load_file(path)
    numbered = "item_numbers" in old
    none = np.empty(0, np.int32)
    return _Kept(
        sha256=entry.sha256,
        items=Held(old["item_numbers"] if numbered else none, old["item_keys"]),
        features=old["features"],
        outfits=Held(old["outfit_numbers"] if numbered else none, old["outfit_keys"]),
        vectors=old["outfits"],
        numbered=numbered,
    )


def _same(before: Held, now: Held) -> bool:
    """Whether the same entities, in the same order, have the same vectors."""
    return np.array_equal(before.numbers, now.numbers) and np.array_equal(before.keys, now.keys)


def _save(
    context: JobContext,
    row: ModelRow,
    features: Float32Array,
    vectors: Float32Array,
    items: Held,
    outfits: Held,
) -> str:
    """Write the file and register it; its sha256."""
    tensors: dict[str, NDArray[Any]] = {
        "features": features,
        "item_keys": items.keys,
        "item_numbers": items.numbers,
        "outfits": vectors,
        "outfit_keys": outfits.keys,
        "outfit_numbers": outfits.numbers,
    }
    name = f"{FILE_PREFIX}-{context.run_id}.safetensors"
    with context.artifacts.add_file(row.model_id, name) as path:
        with writing_tensors(path):
            save_file(tensors, path)
        sha256 = file_sha256(path)

    def register() -> None:
        with context.database.begin() as connection:
            # The file of a run that lost its lease may have been removed by the next one.
            hold_lease(connection, context.run_id)
            register_embedding_set(connection, row.model_id, name, sha256)

    patiently(context, register)
    context.artifacts.remove_files(row.model_id, partial(_is_older, run_id=context.run_id))
    return sha256


def _is_older(name: str, run_id: int) -> bool:
    """Whether a file holds an earlier run's vectors; a later run's are those of who took over."""
    found = re.fullmatch(rf"{FILE_PREFIX}(?:-(\d+))?\.safetensors", name)
    return found is not None and int(found[1] or 0) < run_id
