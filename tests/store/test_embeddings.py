"""Embeddings in SQL: the same neighbours as the arrays."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import Float32Array
from recjob.errors import NotFoundError
from recjob.store.catalog_store import read_catalog, read_keys
from recjob.store.database import Database
from recjob.store.embeddings import (
    delete_embeddings,
    drop_unused_embeddings,
    embedded_keys,
    embedding_set,
    mark_loaded,
    read_embeddings,
    register_embedding_set,
    update_embeddings,
    write_embeddings,
)
from recjob.store.ledger import Lease, Locks
from recjob.store.models import activate
from tests.store.folders import shop, write
from tests.store.registry import register_model


def unit(n: int, seed: int) -> Float32Array:
    vectors = np.random.default_rng(seed).normal(size=(n, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_nearest_outfits_in_sql(database: Database) -> None:
    users, outfits = unit(6, 0), unit(20, 1)
    with database.begin() as connection:
        write(connection, shop())
        register_model(connection, "s")
        keys, catalog = read_keys(connection), read_catalog(connection)
        assert write_embeddings(connection, "outfit", "s", keys.outfits, outfits) == 20
        assert write_embeddings(connection, "user", "s", keys.users, users) == 6
        assert write_embeddings(connection, "item", "s", keys.items, unit(12, 2)) == 12
        found = connection.scalars(
            text(
                "SELECT outfit_id FROM user_embedding AS u JOIN app_user USING (user_key), "
                "outfit_embedding AS o JOIN outfit USING (outfit_key) "
                "WHERE user_id = 'u03' ORDER BY u.vector <#> o.vector LIMIT 5"
            )
        ).all()
    expected = np.argsort(-(outfits @ users[3]))[:5]
    assert found == [catalog.outfit_ids[index] for index in expected]


def test_writing_again_replaces_those_of_the_model(database: Database) -> None:
    keys = np.array([3, 1, 2], np.int32)
    with database.begin() as connection:
        for name in ("s", "other"):
            register_model(connection, name)
            write_embeddings(connection, "user", name, keys, unit(3, 0))
        write_embeddings(connection, "user", "s", keys[:2], unit(2, 5))
        stored_keys, vectors = read_embeddings(connection, "user", "s")
        np.testing.assert_array_equal(stored_keys, [1, 3])
        np.testing.assert_array_equal(vectors, unit(2, 5)[::-1].astype(np.float16))
        assert len(read_embeddings(connection, "user", "other")[0]) == 3
        assert delete_embeddings(connection, "user", "other") == 3
        assert len(read_embeddings(connection, "user", "other")[0]) == 0


def test_only_what_changed_is_touched(database: Database) -> None:
    keys, vectors = np.arange(1, 7, dtype=np.int32), unit(6, 0)
    with database.begin() as connection:
        register_model(connection, "s")
        write_embeddings(connection, "item", "s", keys, vectors)
    query = text("SELECT item_key, xmin::text FROM item_feature")
    with database.begin() as connection:
        before = {row[0]: row[1] for row in connection.execute(query)}
        gone, new = np.array([2, 5, 99], np.int32), np.array([5, 7], np.int32)
        assert update_embeddings(connection, "item", "s", gone, new, unit(2, 9)) == 2
        after = {row[0]: row[1] for row in connection.execute(query)}
        stored, found = read_embeddings(connection, "item", "s")
        np.testing.assert_array_equal(embedded_keys(connection, "item", "s"), stored)
    assert stored.tolist() == [1, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(found[[3, 5]], unit(2, 9).astype(np.float16))
    assert {key for key, version in after.items() if before.get(key) != version} == {5, 7}


def test_which_file_is_loaded(database: Database) -> None:
    with database.begin() as connection:
        register_model(connection, "s")
        assert embedding_set(connection, "s") is None
        register_embedding_set(connection, "s", "a", "a" * 64)
        first = embedding_set(connection, "s")
        assert first is not None
        assert first.loaded_sha256 is None
        mark_loaded(connection, "s", "a" * 64)
        register_embedding_set(connection, "s", "b", "b" * 64)
        second = embedding_set(connection, "s")
        assert second is not None
        assert (second.sha256, second.loaded_sha256) == ("b" * 64, "a" * 64)


def test_vectors_that_nobody_uses_are_dropped(database: Database) -> None:
    lease = Lease(database, "nightly-recommend", Locks(), {"model": "shown"})
    models = ("shown", "unused", "candidate", "active")
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO recommendation_run (run_id, shown) VALUES (:run_id, 1)"),
            {"run_id": lease.run_id},
        )
        for name in models:
            register_model(connection, name)
            if name != "candidate":
                activate(connection, name)
            write_embeddings(connection, "user", name, np.array([1, 2], np.int32), unit(2, 0))
            register_embedding_set(connection, name, "a", "a" * 64)
            mark_loaded(connection, name, "a" * 64)
        assert drop_unused_embeddings(connection) == 2
        left = [name for name in models if len(embedded_keys(connection, "user", name))]
        assert left == ["shown", "candidate", "active"]
        entry = embedding_set(connection, "unused")
        assert entry is not None
        assert entry.loaded_sha256 is None  # it is loaded again when it comes back into use
    lease.end("done", {}, [], {}, None)


def test_wrong_shapes_and_unknown_models(database: Database) -> None:
    with database.connect() as connection:
        with pytest.raises(ValueError, match="shape"):
            write_embeddings(connection, "user", "s", np.zeros(2, np.int32), unit(3, 0))
        with pytest.raises(NotFoundError):
            write_embeddings(connection, "user", "s", np.zeros(3, np.int32), unit(3, 0))
