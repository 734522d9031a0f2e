"""A student's vectors of the whole catalog: computed where new, kept as one float32 file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recjob.catalog.catalog import BoolArray, Catalog, Float32Array
from recjob.catalog.hashing import mix
from recjob.inference.choice import ChosenEngine, CompiledStudent, choose_engine
from recjob.inference.embedding import embed_items, embed_outfits, unit
from recjob.inference.model_files import StoredRecommender
from recjob.inference.tensor_files import writing_tensors
from recjob.inference.tensorrt_build import TENSORRT, TENSORRT_RTX, EngineFile
from recjob.jobs.compile import ONNX_KIND, SET_ENCODER, SETTINGS_KIND
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.model.recommender import FEATURE_DIM
from recjob.settings import CompileSettings
from recjob.store.artifacts import file_sha256
from recjob.store.embeddings import embedding_set, register_embedding_set
from recjob.store.models import ModelRow, list_engines
from recjob.training.compute import choose_compute

UInt8Array = NDArray[np.uint8]
EMBEDDINGS_FILE = "embeddings.safetensors"

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
    engine: str
    reason: str
    """Why this engine."""
    new_items: int
    new_outfits: int


def refresh_embeddings(
    context: JobContext, row: ModelRow, stored: StoredRecommender, shop: Shop
) -> Embeddings:
    """The student's vectors of the catalog as it is now; only what is missing is computed.

    An item is known by the content of its picture, an outfit by its id and its items' pictures.
    The file is written anew where something changed.
    """
    catalog = shop.catalog
    features, known_items, outfits, known_outfits = _kept(context, row, catalog)
    new_items = np.flatnonzero(catalog.item_usable & ~known_items)
    new_outfits = np.flatnonzero(catalog.outfit_usable & ~known_outfits)
    chosen = _engine(context, row, stored)
    log.info("embedding runs on %s: %s", chosen.engine.name, chosen.reason)
    batch_size = context.settings.embed.batch_size
    if new_items.size:
        with context.stage("item features") as stage, progress_bar("items", new_items.size) as bar:
            features[new_items] = embed_items(
                chosen.engine,
                shop.pictures.pixels,
                shop.picture_rows[new_items],
                batch_size,
                bar.by,
            )
            stage.items = int(new_items.size)
    if new_outfits.size:
        with (
            context.stage("outfit vectors") as stage,
            progress_bar("outfits", new_outfits.size) as bar,
        ):
            outfits[new_outfits] = embed_outfits(
                chosen.engine, features, catalog.outfit_items[new_outfits], batch_size, bar.by
            )
            stage.items = int(new_outfits.size)
    if new_items.size or new_outfits.size:
        with context.stage("save vectors"):
            _save(context, row, catalog, features, outfits)
    users = unit(stored.model.users.weight.detach().float().cpu().numpy())
    return Embeddings(
        features,
        outfits,
        users,
        chosen.engine.name,
        chosen.reason,
        int(new_items.size),
        int(new_outfits.size),
    )


def _kept(
    context: JobContext, row: ModelRow, catalog: Catalog
) -> tuple[Float32Array, BoolArray, Float32Array, BoolArray]:
    """What the last file holds of this catalog: features, which; outfit vectors, which."""
    features = np.zeros((catalog.n_items, FEATURE_DIM), np.float32)
    outfits = np.zeros((catalog.n_outfits, FEATURE_DIM), np.float32)
    known_items = np.zeros(catalog.n_items, np.bool_)
    known_outfits = np.zeros(catalog.n_outfits, np.bool_)
    with context.database.connect() as connection:
        entry = embedding_set(connection, row.model_id)
    if entry is None:
        return features, known_items, outfits, known_outfits
    path = context.artifacts.file(row.model_id, entry.file, entry.sha256)
    old = load_file(path)
    rows = _places(_picture_keys(catalog), old["item_keys"])
    known_items = (rows >= 0) & catalog.item_usable
    features[known_items] = old["features"][rows[known_items]]
    rows = _places(_outfit_keys(catalog), old["outfit_keys"])
    known_outfits = (rows >= 0) & catalog.outfit_usable
    outfits[known_outfits] = old["outfits"][rows[known_outfits]]
    return features, known_items, outfits, known_outfits


def _picture_keys(catalog: Catalog) -> UInt8Array:
    """(n_items, 32) sha256 of each item's picture, zeros in quarantine."""
    text = "".join(image or "0" * 64 for image in catalog.item_image)
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 32)


def _outfit_keys(catalog: Catalog) -> UInt8Array:
    """(n_outfits, 32) what an outfit's vector depends on: a hash of the set of its pictures.

    The sum over the items of their pictures' hashes, each of its four words mixed first: the
    order does not matter.
    """
    words = _picture_keys(catalog).view("<u8").astype(np.uint64)
    mixed = np.vstack([mix(words), np.zeros((1, words.shape[1]), np.uint64)])  # for padding
    total = mixed[catalog.outfit_items].sum(axis=1, dtype=np.uint64)
    keys: UInt8Array = total.astype("<u8").view(np.uint8).reshape(-1, 32)
    return keys


def _places(wanted: UInt8Array, known: UInt8Array) -> NDArray[np.int64]:
    """(n,) row in `known (m, 32)` of each of `wanted (n, 32)`, -1 where it has none."""
    found = pc.index_in(_binary(wanted), value_set=_binary(known))
    return np.asarray(found.fill_null(-1), dtype=np.int64)


def _binary(keys: UInt8Array) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(keys))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(keys.shape[1]), len(keys), [None, buffer])


def _save(
    context: JobContext,
    row: ModelRow,
    catalog: Catalog,
    features: Float32Array,
    outfits: Float32Array,
) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "features": features,
        "item_keys": _picture_keys(catalog),
        "outfits": outfits,
        "outfit_keys": _outfit_keys(catalog),
    }
    with context.artifacts.add_file(row.model_id, EMBEDDINGS_FILE) as path:
        with writing_tensors(path):
            save_file(tensors, path)
        sha256 = file_sha256(path)
    with context.database.begin() as connection:
        register_embedding_set(connection, row.model_id, EMBEDDINGS_FILE, sha256)


def _engine(context: JobContext, row: ModelRow, stored: StoredRecommender) -> ChosenEngine:
    compute = choose_compute(context.settings.compute)
    return choose_engine(
        stored.model,
        _compiled(context, row),
        preference=context.settings.embed.engine,
        device=compute.device,
        bf16=compute.bf16,
    )


def _compiled(context: JobContext, row: ModelRow) -> CompiledStudent | None:
    """What `compile` registered for the student; None where it did not run."""
    with context.database.connect() as connection:
        rows = list_engines(connection, row.model_id)
    onnx = {engine.target: engine.sha256 for engine in rows if engine.kind == ONNX_KIND}
    options = [engine for engine in rows if engine.kind == SETTINGS_KIND]
    if not options or not {"item_encoder", SET_ENCODER} <= onnx.keys():
        return None
    file = context.artifacts.file(row.model_id, options[0].file, options[0].sha256)
    return CompiledStudent(
        item_onnx_sha256=onnx["item_encoder"],
        set_onnx_sha256=onnx[SET_ENCODER],
        image_size=int(options[0].target),
        settings=CompileSettings.model_validate_json(file.read_bytes()),
        engines=[
            EngineFile(
                path=context.artifacts.root / "models" / row.model_id / engine.file,
                key=engine.key,
                sha256=engine.sha256,
                network="item_encoder" if "item_encoder" in engine.file else "set_encoder",
                kind=engine.kind,
                target=engine.target,
                seconds=0.0,
                bytes=0,
            )
            for engine in rows
            if engine.kind in (TENSORRT, TENSORRT_RTX)
        ],
    )
