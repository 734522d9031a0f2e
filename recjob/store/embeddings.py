"""Embeddings of a model in Postgres, for readers in SQL; jobs compute from the float32 artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from recjob.catalog.catalog import Int32Array
from recjob.store.bulk import Halfvec, copy_in, copy_out
from recjob.store.models import model_key

DIMENSIONS = 128
"""Length of every vector: d of the paper, and of the columns."""

Entity = Literal["item", "outfit", "user"]
_TABLES: dict[Entity, str] = {
    "item": "item_feature",
    "outfit": "outfit_embedding",
    "user": "user_embedding",
}


def write_embeddings(
    connection: Connection,
    entity: Entity,
    model_id: str,
    keys: Int32Array,
    vectors: NDArray[np.floating[Any]],
) -> int:
    """Replace the model's vectors of `entity` by `vectors` (N, 128); `keys` (N,) of `read_keys`.

    Raises NotFoundError for an unknown model.
    """
    if vectors.shape != (len(keys), DIMENSIONS):
        raise ValueError(f"{len(keys)} keys and vectors of shape {vectors.shape}")
    number = model_key(connection, model_id)
    delete_embeddings(connection, entity, model_id)
    return _copy(connection, entity, number, keys, vectors)


def update_embeddings(
    connection: Connection,
    entity: Entity,
    model_id: str,
    gone: Int32Array,
    keys: Int32Array,
    vectors: NDArray[np.floating[Any]],
) -> int:
    """Delete the model's vectors of the keys `gone` (M,) and add `vectors` (N, 128) of `keys`.

    No other row is touched. Returns N; raises NotFoundError for an unknown model.
    """
    table, number = _TABLES[entity], model_key(connection, model_id)
    if len(gone):
        connection.execute(
            text(
                f"DELETE FROM {table} USING unnest(cast(:gone AS integer[])) AS gone (key) "  # noqa: S608
                f"WHERE model_key = :model_key AND {entity}_key = gone.key"
            ),
            {"gone": gone.tolist(), "model_key": number},
        )
    return _copy(connection, entity, number, keys, vectors) if len(keys) else 0


def embedded_keys(connection: Connection, entity: Entity, model_id: str) -> Int32Array:
    """Keys (N,), ascending, that have a vector of the model."""
    rows = copy_out(
        connection,
        f"SELECT {entity}_key FROM {_TABLES[entity]} "  # noqa: S608
        f"WHERE model_key = {model_key(connection, model_id)} ORDER BY {entity}_key",
        {"key": "i4"},
    )
    return rows["key"].astype(np.int32)


def drop_unused_embeddings(connection: Connection) -> int:
    """Delete vectors of retired models that no kept run was scored with; the number of rows.

    Their files stay: a model that comes back into use is loaded from them again.
    """
    unused = connection.scalars(
        text(
            "SELECT model_key FROM model WHERE status = 'retired' AND model_id NOT IN ("
            "SELECT parameters ->> 'model' FROM recommendation_run JOIN job_run USING (run_id) "
            "WHERE parameters ? 'model')"
        )
    ).all()
    if not unused:
        return 0
    dropped = sum(
        connection.execute(
            text(f"DELETE FROM {table} WHERE model_key = ANY (:unused)"),  # noqa: S608
            {"unused": list(unused)},
        ).rowcount
        for table in _TABLES.values()
    )
    if dropped:
        connection.execute(
            text("UPDATE embedding_set SET loaded_sha256 = NULL WHERE model_key = ANY (:unused)"),
            {"unused": list(unused)},
        )
    return dropped


def _copy(
    connection: Connection,
    entity: Entity,
    number: int,
    keys: Int32Array,
    vectors: NDArray[np.floating[Any]],
) -> int:
    return copy_in(
        connection,
        _TABLES[entity],
        {
            "model_key": np.full(len(keys), number, np.int32),
            f"{entity}_key": keys,
            "vector": Halfvec(vectors),
        },
    )


def read_embeddings(
    connection: Connection, entity: Entity, model_id: str
) -> tuple[Int32Array, NDArray[np.float16]]:
    """Keys (N,), ascending, and vectors (N, 128) as they are stored."""
    number = model_key(connection, model_id)
    rows = copy_out(
        connection,
        f"SELECT {entity}_key, vector FROM {_TABLES[entity]} "  # noqa: S608
        f"WHERE model_key = {number} ORDER BY {entity}_key",
        {"key": "i4", "vector": f"{DIMENSIONS}f2"},
    )
    return rows["key"].astype(np.int32), rows["vector"].astype(np.float16)


def delete_embeddings(connection: Connection, entity: Entity, model_id: str) -> int:
    """Delete the model's vectors of `entity`; the number of rows."""
    return connection.execute(
        text(f"DELETE FROM {_TABLES[entity]} WHERE model_key = :key"),  # noqa: S608
        {"key": model_key(connection, model_id)},
    ).rowcount


@dataclass(frozen=True)
class EmbeddingSet:
    """The float32 vectors of a model: a further file of its artifact folder."""

    file: str
    sha256: str
    loaded_sha256: str | None
    """Of the file whose items and outfits the tables hold; None where that is not known."""


def register_embedding_set(connection: Connection, model_id: str, file: str, sha256: str) -> None:
    """Make this file the model's vectors."""
    connection.execute(
        text(
            "INSERT INTO embedding_set (model_key, file, sha256) "
            "VALUES (:model_key, :file, :sha256) ON CONFLICT (model_key) DO UPDATE "
            "SET file = excluded.file, sha256 = excluded.sha256, created = now()"
        ),
        {"model_key": model_key(connection, model_id), "file": file, "sha256": sha256},
    )


def embedding_set(connection: Connection, model_id: str) -> EmbeddingSet | None:
    """The model's vectors; None where it has not embedded anything yet."""
    row = connection.execute(
        text(
            "SELECT file, embedding_set.sha256, loaded_sha256 FROM embedding_set "
            "JOIN model USING (model_key) WHERE model_id = :model_id"
        ),
        {"model_id": model_id},
    ).one_or_none()
    return None if row is None else EmbeddingSet(*row)


def mark_loaded(connection: Connection, model_id: str, sha256: str) -> None:
    """The model's tables hold, from this transaction on, the file with this sha256."""
    connection.execute(
        text("UPDATE embedding_set SET loaded_sha256 = :sha256 WHERE model_key = :model_key"),
        {"sha256": sha256, "model_key": model_key(connection, model_id)},
    )
