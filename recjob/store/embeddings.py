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
    table = _TABLES[entity]
    number = model_key(connection, model_id)
    delete_embeddings(connection, entity, model_id)
    return copy_in(
        connection,
        table,
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
            "SELECT file, embedding_set.sha256 FROM embedding_set JOIN model USING (model_key) "
            "WHERE model_id = :model_id"
        ),
        {"model_id": model_id},
    ).one_or_none()
    return None if row is None else EmbeddingSet(*row)
