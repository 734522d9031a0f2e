"""What goes in by COPY comes out by ordinary SQL, and the other way round."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from recjob.store import bulk
from recjob.store.bulk import Halfvec, copy_in, copy_out, copy_table_in, copy_table_out
from recjob.store.database import Database

SCALARS = {
    "a": ("boolean", np.array([True, False, True])),
    "b": ("smallint", np.array([-(2**15), 0, 2**15 - 1], np.int16)),
    "c": ("integer", np.array([-(2**31), 0, 2**31 - 1], np.int32)),
    "d": ("bigint", np.array([-(2**63), 0, 2**63 - 1], np.int64)),
    "e": ("real", np.array([-0.1, np.inf, 3e38], np.float32)),
    "f": ("double precision", np.array([-0.1, 5e-324, 1e308])),
}


def test_scalars_come_back_as_they_went_in(database: Database) -> None:
    definition = ", ".join(f"{name} {kind}" for name, (kind, _) in SCALARS.items())
    with database.begin() as connection:
        connection.execute(text(f"CREATE TEMPORARY TABLE t ({definition})"))
        assert (
            copy_in(connection, "t", {name: column for name, (_, column) in SCALARS.items()}) == 3
        )
        rows = connection.execute(text("SELECT * FROM t")).all()
    for place, (_, column) in enumerate(SCALARS.values()):
        np.testing.assert_array_equal(np.array([row[place] for row in rows], column.dtype), column)


def test_arrays_and_half_vectors(database: Database) -> None:
    numbers = np.arange(12, dtype=np.int32).reshape(4, 3) - 5
    reals = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    vectors = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE TEMPORARY TABLE t (numbers integer[], reals real[], nothing bigint[], "
                "vector halfvec(7))"
            )
        )
        copy_in(
            connection,
            "t",
            {
                "numbers": numbers,
                "reals": reals,
                "nothing": np.empty((4, 0), np.int64),
                "vector": Halfvec(vectors),
            },
        )
        rows = connection.execute(text("SELECT numbers, reals, nothing, vector::text FROM t")).all()
    assert [row[0] for row in rows] == numbers.tolist()
    np.testing.assert_array_equal(np.array([row[1] for row in rows], np.float32), reals)
    assert [row[2] for row in rows] == [[]] * 4
    stored = np.array([[float(x) for x in row[3].strip("[]").split(",")] for row in rows])
    np.testing.assert_allclose(stored, vectors.astype(np.float16), rtol=1e-3)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(
        st.tuples(
            st.none()
            | st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=9),
            st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
            st.integers(-(2**31), 2**31 - 1),
        ),
        max_size=20,
    ),
    skip=st.integers(0, 3),
)
def test_texts_times_and_nulls(
    database: Database, rows: list[tuple[str | None, datetime | None, int]], skip: int
) -> None:
    kept = rows[skip:]  # slices of Arrow arrays begin in the middle of their buffers
    texts = pa.array([row[0] for row in rows], pa.string())[skip:]
    times = pa.array([row[1] for row in rows], pa.timestamp("us", tz="UTC"))[skip:]
    numbers = np.array([row[2] for row in kept], np.int32)
    expected = sorted(
        [(row[0], None if row[1] is None else row[1].replace(tzinfo=UTC), row[2]) for row in kept],
        key=repr,
    )
    with database.begin() as connection:
        connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        for name in ("one", "two"):
            connection.execute(
                text(f"CREATE TEMPORARY TABLE {name} (a text, b timestamptz, c integer)")
            )
        copy_in(connection, "one", {"a": texts, "b": times, "c": numbers})
        copy_table_in(connection, "two", pa.table({"a": texts, "b": times, "c": pa.array(numbers)}))
        for name in ("one", "two"):
            found = connection.execute(text(f"SELECT a, b, c FROM {name}"))
            assert sorted(map(tuple, found), key=repr) == expected
            schema = pa.schema([("a", pa.string()), ("c", pa.int32())])
            table = copy_table_out(connection, f"SELECT a, c FROM {name}", schema)
            back = sorted(
                zip(*(column.to_pylist() for column in table.columns), strict=True), key=repr
            )
            assert back == sorted(((a, c) for a, _, c in expected), key=repr)
        connection.execute(text("DROP TABLE one, two"))


def test_texts_of_one_width(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE t (a text, b integer)"))
        copy_in(connection, "t", {"a": np.full(3, b"warm"), "b": np.arange(3, dtype=np.int32)})
        rows = connection.execute(text("SELECT a, b FROM t ORDER BY b")).all()
    assert rows == [("warm", 0), ("warm", 1), ("warm", 2)]


def test_several_chunks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_ROWS", 7)
    keys = np.arange(100, dtype=np.int32)
    names = pa.chunked_array([[f"n{i}" for i in range(40)], [f"n{i}" for i in range(40, 100)]])
    with database.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE t (key integer, name text)"))
        copy_in(connection, "t", {"key": keys, "name": names})
        rows = connection.execute(text("SELECT key, name FROM t ORDER BY key")).all()
    assert rows == [(i, f"n{i}") for i in range(100)]


def test_fixed_columns_are_read_as_arrays(database: Database) -> None:
    vectors = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float16)
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE TEMPORARY TABLE t (i integer, s smallint, b boolean, r real, v halfvec(4))"
            )
        )
        columns = {
            "i": np.arange(5, dtype=np.int32),
            "s": np.arange(5, dtype=np.int16)[::-1],
            "b": np.arange(5) % 2 == 0,
            "r": np.linspace(0, 1, 5, dtype=np.float32),
        }
        copy_in(connection, "t", {**columns, "v": Halfvec(vectors)})
        kinds = {"i": "i4", "s": "i2", "b": "b1", "r": "f4", "v": "4f2"}
        rows = copy_out(connection, "SELECT * FROM t ORDER BY i", kinds)
        none = copy_out(connection, "SELECT * FROM t WHERE i > 9", kinds)
    for name, column in {**columns, "v": vectors}.items():
        np.testing.assert_array_equal(rows[name], column)
    assert none.shape == (0,)
    assert none["v"].shape == (0, 4)


def test_columns_of_different_lengths_are_refused(database: Database) -> None:
    with database.connect() as connection, pytest.raises(ValueError, match="lengths"):
        copy_in(connection, "t", {"a": np.zeros(2), "b": np.zeros(3)})


def test_a_failing_copy_leaves_the_transaction_to_be_rolled_back(database: Database) -> None:
    def fail() -> None:
        with database.begin() as connection:
            connection.execute(text("INSERT INTO app_user (user_id) VALUES ('u')"))
            copy_in(connection, "item", {"item_id": pa.array(["i"])})

    with pytest.raises(psycopg.errors.NotNullViolation):
        fail()
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM app_user")) == 0
