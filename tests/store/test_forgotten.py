"""Tombstones, and the rows that they keep out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from recjob.store import schema
from recjob.store.catalog_store import read_keys
from recjob.store.database import Database, administrator
from recjob.store.forgotten import (
    LeftOut,
    forget_user,
    forgotten_among,
    is_forgotten,
    without_forgotten,
)
from tests.store.folders import folder, shop, write
from tests.store.runs import run_lists, write_run

IDS = ("u01", "Zoë 😀", "x" * 1000, "a'b\"\\c", "0")


def test_tombstones_are_hmac_sha256_under_a_key_of_the_installation(database: Database) -> None:
    with database.begin() as connection:
        for user_id in IDS:
            assert forget_user(connection, user_id) == {}
            forget_user(connection, user_id)  # once is enough
    with administrator(database.url) as engine, engine.connect() as connection:
        key = bytes(connection.scalar(text("SELECT forget_key FROM installation")))
        found = {
            bytes(row) for row in connection.scalars(text("SELECT user_hash FROM forgotten_user"))
        }
    assert len(key) >= 32
    assert found == {hmac.digest(key, user_id.encode(), hashlib.sha256) for user_id in IDS}
    with database.connect() as connection:
        asked = [*IDS, "u02", "u1", "U01"]
        assert forgotten_among(connection, asked) == frozenset(IDS)
        assert is_forgotten(connection, "u01")
        assert not is_forgotten(connection, "u02")


def test_two_installations_have_different_keys(new_database: Callable[[bool], URL]) -> None:
    """Each database that is migrated draws its own."""
    keys = set()
    for _ in range(2):
        url = new_database(False)
        with administrator(url) as engine:
            schema.upgrade(engine)
            with engine.connect() as connection:
                keys.add(bytes(connection.scalar(text("SELECT forget_key FROM installation"))))
    assert len(keys) == 2


def test_jobs_never_see_the_key_nor_write_tombstones_by_themselves(database: Database) -> None:
    for statement in (
        "SELECT forget_key FROM installation",
        "INSERT INTO forgotten_user (user_hash) VALUES ('x')",
        "DELETE FROM forgotten_user",
        "SELECT user_hashes(ARRAY['u'])",
        "DELETE FROM app_user",
    ):
        with pytest.raises(DBAPIError) as denied, database.engine.begin() as connection:
            connection.execute(text(statement))
        assert isinstance(denied.value.orig, psycopg.errors.InsufficientPrivilege), statement


def test_a_folder_loses_the_rows_of_forgotten_users(database: Database) -> None:
    tables = folder(
        items=[("i", "top", "i.jpg", True, "{}")],
        outfits=[("o", ["i"], True), ("p", ["i"], True)],
        interactions=[("anna", "o", None), ("ben", "o", None), ("anna", "p", None)],
        users=["anna", "cleo"],
        negatives=[("anna", "o", ["i"], "hard"), ("ben", "o", ["i"], "random")],
    )
    with database.begin() as connection:
        kept, left = without_forgotten(connection, tables)
        assert kept is tables
        assert left == LeftOut(0, 0, 0)
        forget_user(connection, "anna")
        forget_user(connection, "nobody")
        kept, left = without_forgotten(connection, tables)
    assert left == LeftOut(users=1, interactions=2, negatives=1)
    assert kept.users["user_id"].to_pylist() == ["cleo"]
    assert kept.interactions["user_id"].to_pylist() == ["ben"]
    assert kept.negatives["user_id"].to_pylist() == ["ben"]
    assert kept.outfits is tables.outfits


def planner_names(database: Database, user_id: str) -> bool:
    """Whether the planner's statistics of columns, which hold values, name a user."""
    query = "SELECT pg_stats::text FROM pg_stats WHERE schemaname = 'public'"
    with administrator(database.url) as engine, engine.connect() as connection:
        return any(user_id in row for row in connection.scalars(text(query)))


def test_rows_of_every_table_and_partition_go_and_others_stay(database: Database) -> None:
    with database.begin() as connection:
        write(connection, shop())
    with database.connect() as connection:
        keys = read_keys(connection)
    for _ in range(2):
        write_run(database, keys, run_lists({user: [19, 18] for user in range(-1, 6)}), 2)
    with database.begin() as connection:
        connection.execute(text("SELECT create_recommendation_partition(99)"))
        connection.execute(
            text(
                "INSERT INTO recommendation_run_99 SELECT 99, user_key, 'warm', '{}', '{}' "
                "FROM app_user"
            )
        )
        connection.execute(text("SELECT seal_recommendation_partition(99)"))
    assert planner_names(database, "u02")
    with database.begin() as connection:
        assert forget_user(connection, "u02") == {
            "app_user": 1,
            "interaction": 2,
            "recommendation": 3,
            "given_negative": 0,
            "evaluation_list": 0,
            "user_embedding": 0,
        }
    key = int(keys.users[2])
    with database.connect() as connection:
        lists = connection.execute(
            text(
                "SELECT run_id, array_agg(user_key ORDER BY user_key) FROM recommendation "
                "GROUP BY run_id"
            )
        ).all()
        rest = [0, *(int(k) for k in keys.users if k != key)]
        assert [users for _, users in lists] == [rest, rest]
        loose = (
            "SELECT count(*), count(*) FILTER (WHERE user_key = :key) FROM recommendation_run_99"
        )
        assert connection.execute(text(loose), {"key": key}).one() == (5, 0)
        assert connection.scalar(text("SELECT count(*) FROM app_user")) == 5
    assert not planner_names(database, "u02")
    with database.begin() as connection:
        assert forget_user(connection, "u02") == {}
