"""Embeddings in SQL: the same neighbours as the arrays."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import Float32Array
from recjob.errors import NotFoundError
from recjob.store.catalog_store import read_catalog, read_keys
from recjob.store.database import Database
from recjob.store.embeddings import delete_embeddings, read_embeddings, write_embeddings
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


def test_wrong_shapes_and_unknown_models(database: Database) -> None:
    with database.connect() as connection:
        with pytest.raises(ValueError, match="shape"):
            write_embeddings(connection, "user", "s", np.zeros(2, np.int32), unit(3, 0))
        with pytest.raises(NotFoundError):
            write_embeddings(connection, "user", "s", np.zeros(3, np.int32), unit(3, 0))
