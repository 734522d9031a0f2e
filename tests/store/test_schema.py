"""Migrations up and down, and what each role may do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from recjob.errors import RefusedError, UserError
from recjob.settings import Settings
from recjob.store import schema
from recjob.store.database import administrator, open_database
from recjob.store.schema import SchemaState
from tests.store.folders import shop, write

OBJECTS = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%'
UNION ALL
SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


@pytest.fixture
def empty(new_database: Callable[[bool], URL]) -> Iterator[Engine]:
    with administrator(new_database(False)) as engine:
        yield engine


@pytest.fixture
def migrated(new_database: Callable[[bool], URL]) -> Iterator[Engine]:
    with administrator(new_database(True)) as engine:
        yield engine


def objects(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(text(OBJECTS)))


def test_every_step_goes_up_and_down(empty: Engine) -> None:
    revisions = sorted(path.name[:4] for path in (schema.MIGRATIONS / "versions").glob("0*.py"))
    assert schema.code_version() == revisions[-1]
    with empty.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    seen: dict[str, list[str]] = {"base": objects(empty)}
    for revision in revisions:
        schema.upgrade(empty, revision)
        seen[revision] = objects(empty)
        with empty.connect() as connection:
            assert schema.schema_version(connection) == revision
    for revision in [*revisions[-2::-1], "base"]:
        schema.downgrade(empty, revision)
        assert objects(empty) == seen[revision]
    schema.upgrade(empty)
    assert objects(empty) == seen[revisions[-1]]


def test_down_with_data_and_a_loose_partition(empty: Engine, migrated: Engine) -> None:
    with migrated.begin() as connection:
        write(connection, shop())
        connection.execute(text("SELECT create_recommendation_partition(7)"))
    schema.downgrade(migrated)
    with empty.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    assert objects(migrated) == objects(empty)


def test_kept_runs_and_mixes_go_up_and_down_with_their_data(empty: Engine) -> None:
    """0006: lists of before show in full, and what is newer shows as before."""
    read = text("SELECT user_id, rank, outfit_id FROM current_recommendation ORDER BY 1, 2")
    schema.upgrade(empty, "0005")
    with empty.begin() as connection:
        write_before_mixes(connection)
        before = connection.execute(read).all()
    assert before == [("u", 1, "a"), ("u", 2, "b"), ("u", 3, "c")]
    schema.upgrade(empty, "0006")
    with empty.begin() as connection:
        assert connection.execute(read).all() == before
        assert connection.execute(
            text("SELECT run_id, shown, held, statistics FROM recommendation_run ORDER BY run_id")
        ).all() == [(1, 1, None, {}), (2, 3, None, {})]
        for statement in (
            "INSERT INTO outfit (outfit_id, origin) VALUES ('liked', 'mix'), ('unused', 'mix')",
            "INSERT INTO interaction SELECT 1, outfit_key FROM outfit WHERE outfit_id = 'liked'",
            "UPDATE recommendation_run SET shown = 2 WHERE run_id = 2",
            "INSERT INTO recommendation VALUES (2, 0, 'stranger', '{2}', '{1}')",
        ):
            connection.execute(text(statement))
        seen = connection.execute(read).all()
    assert seen == [("u", 1, "a"), ("u", 2, "b"), (None, 1, "b")]
    schema.downgrade(empty, "0005")
    with empty.begin() as connection:
        assert connection.execute(read).all() == seen[:2]
        outfits = connection.scalars(text("SELECT outfit_id FROM outfit ORDER BY 1")).all()
        assert outfits == ["a", "b", "c", "liked"]
    schema.upgrade(empty)
    with empty.begin() as connection:
        assert connection.execute(read).all() == [*seen[:2], (None, 1, "b")]


def write_before_mixes(connection: Connection) -> None:
    """A user, three outfits without items, and two runs as of version 0005."""
    for statement in (
        "INSERT INTO app_user (user_id) VALUES ('u')",
        "INSERT INTO outfit (outfit_id) VALUES ('a'), ('b'), ('c')",
        "INSERT INTO job_run (job, host, pid, outcome, ended) "
        "SELECT 'nightly-recommend', 'host', 1, 'done', now() FROM generate_series(1, 2)",
        "SELECT create_recommendation_partition(run) FROM generate_series(1, 2) AS run",
        "INSERT INTO recommendation_run_2 VALUES (2, 1, 'warm', '{1,2,3}', '{1,1,1}')",
        "SELECT seal_recommendation_partition(run) FROM generate_series(1, 2) AS run",
        "SELECT attach_recommendation_partition(run) FROM generate_series(1, 2) AS run",
        "UPDATE publication SET current_run = 2, previous_runs = '{1}'",
    ):
        connection.execute(text(statement))


def test_down_leaves_the_roles_to_other_databases(empty: Engine, migrated: Engine) -> None:
    schema.upgrade(empty)
    schema.downgrade(empty)
    with migrated.begin() as connection:
        connection.execute(text("SET LOCAL ROLE recjob_writer"))
        assert connection.scalar(text("SELECT count(*) FROM item")) == 0


def test_states(empty: Engine) -> None:
    states = []
    for step in (None, "0002", "head"):
        if step:
            schema.upgrade(empty, step)
        with empty.connect() as connection:
            states.append(schema.schema_state(connection))
    assert states == [SchemaState.MISSING, SchemaState.BEHIND, SchemaState.CURRENT]
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        assert schema.schema_state(connection) is SchemaState.UNKNOWN
    with pytest.raises(RefusedError, match="9999"):
        schema.upgrade(empty)


def test_a_server_of_yours_is_not_migrated_behind_your_back(empty: Engine, tmp_path: Path) -> None:
    url = empty.url.render_as_string(hide_password=False)
    settings = Settings(home=tmp_path, database_url=SecretStr(url))
    with pytest.raises(UserError, match=r"schema is missing; run `python cli\.py db upgrade`"):
        open_database(settings).__enter__()
    schema.upgrade(empty, "0003")
    with pytest.raises(UserError, match=r"schema is behind; run `python cli\.py db upgrade`"):
        open_database(settings).__enter__()
    schema.upgrade(empty)
    with open_database(settings) as database:
        assert not database.embedded


def test_an_administrator_who_is_no_superuser(empty: Engine, migrated: Engine) -> None:
    """As on hosted servers: owns the database, may use the roles, the extension is there."""
    name = f"admin_{empty.url.database}"
    with empty.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN IN ROLE recjob_owner"))
        connection.execute(text("CREATE EXTENSION vector"))
        connection.execute(text(f"ALTER DATABASE {empty.url.database} OWNER TO {name}"))
    with administrator(empty.url.set(username=name)) as engine:
        schema.upgrade(engine)
        assert objects(engine) == objects(migrated)
        schema.downgrade(engine)
        schema.upgrade(engine)


def test_a_user_without_rights_is_told(empty: Engine) -> None:
    name = empty.url.database
    with empty.begin() as connection:
        connection.execute(text(f"CREATE ROLE weak_{name} LOGIN"))
    with (
        administrator(empty.url.set(username=f"weak_{name}")) as engine,
        pytest.raises(UserError, match="may not migrate"),
    ):
        schema.upgrade(engine)
    with empty.begin() as connection:
        connection.execute(text(f"DROP ROLE weak_{name}"))


READER = [
    "SELECT * FROM current_recommendation",
    "SELECT * FROM item",
    "SELECT * FROM outfit",
    "SELECT * FROM outfit_item",
]
MONITOR = [
    "SELECT * FROM job_run",
    "SELECT * FROM publication",
    "SELECT * FROM recommendation_run",
    "SELECT * FROM model",
    "SELECT * FROM engine",
]
PRIVATE = [
    "SELECT * FROM interaction",
    "SELECT * FROM app_user",
    "SELECT * FROM recommendation",
    "SELECT * FROM user_embedding",
    "SELECT * FROM given_negative",
    "SELECT * FROM evaluation_list",
    "SELECT * FROM evaluation_set",
]
WRITES = [
    "INSERT INTO item (item_id, category, image) VALUES ('x', 'y', 'z')",
    "UPDATE outfit SET available = false",
    "DELETE FROM outfit_item",
    "UPDATE publication SET current_run = NULL",
    "SELECT create_recommendation_partition(1)",
    "SELECT drop_recommendation_partition(1)",
    "SELECT analyze_catalog()",
    "UPDATE recommendation_run SET held = NULL",
    "SELECT drop_unused_mixes()",
]
OWNERS = [
    "DROP TABLE interaction",
    "ALTER TABLE item ADD COLUMN x integer",
    "TRUNCATE interaction",
    "DELETE FROM interaction",
    "DELETE FROM job_run",
    "DELETE FROM recommendation_run",
    "DELETE FROM outfit",
    "UPDATE evaluation_list SET item_keys = '{}'",
    "DELETE FROM evaluation_set",
    "INSERT INTO recommendation VALUES (1, 1, 'warm', '{}', '{}')",
    "CREATE TABLE mine (x integer)",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "DROP VIEW current_recommendation",
    "SET LOCAL ROLE recjob_owner",
]


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        ("recjob_reader", READER, [*PRIVATE, *MONITOR, *WRITES, *OWNERS]),
        ("recjob_monitor", MONITOR, [*PRIVATE, *READER, *WRITES, *OWNERS]),
        ("recjob_writer", [*READER, *MONITOR, *PRIVATE], OWNERS),
    ],
)
def test_roles(migrated: Engine, role: str, allowed: list[str], denied: list[str]) -> None:
    # A login of its own: a superuser who sets a role could set any other.
    login = f"login_{role}_{migrated.url.database}"
    with migrated.begin() as connection:
        connection.execute(text(f"CREATE ROLE {login} LOGIN IN ROLE {role}"))
    try:
        with administrator(migrated.url.set(username=login)) as engine:
            for statement in allowed:
                with engine.begin() as connection:
                    connection.execute(text(statement))
            for statement in denied:
                with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
                    connection.execute(text(statement))
                assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege), (
                    statement
                )
    finally:
        with migrated.begin() as connection:
            connection.execute(text(f"DROP ROLE {login}"))


def test_a_writers_login_opens_the_database_and_works(migrated: Engine, tmp_path: Path) -> None:
    login = f"jobs_{migrated.url.database}"
    with migrated.begin() as connection:
        connection.execute(text(f"CREATE ROLE {login} LOGIN IN ROLE recjob_writer"))
    try:
        url = migrated.url.set(username=login).render_as_string(hide_password=False)
        settings = Settings(home=tmp_path, database_url=SecretStr(url))
        with open_database(settings) as database, database.begin() as connection:
            assert connection.scalar(text("SELECT current_user")) == "recjob_writer"
            write(connection, shop())
    finally:
        with migrated.begin() as connection:
            connection.execute(text(f"DROP ROLE {login}"))


def as_writer(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in ("SET LOCAL ROLE recjob_writer", *statements):
            connection.execute(text(statement))


def test_a_sealed_partition_is_read_only(migrated: Engine) -> None:
    insert = "INSERT INTO recommendation_run_7 VALUES (7, 1, 'warm', '{}', '{}')"
    as_writer(
        migrated,
        "SELECT create_recommendation_partition(7)",
        insert,
        "SELECT seal_recommendation_partition(7)",
    )
    for statement in (insert.replace(" 1,", " 2,"), "DROP TABLE recommendation_run_7"):
        with pytest.raises(DBAPIError) as caught:
            as_writer(migrated, statement)
        assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege)


def test_functions_are_not_fooled_by_the_callers_objects(migrated: Engine) -> None:
    """A temporary table of the same name comes first in an ordinary search path."""
    with migrated.begin() as connection:
        connection.execute(text("SET LOCAL ROLE recjob_writer"))
        connection.execute(text("CREATE TEMPORARY TABLE publication (current_run integer)"))
        connection.execute(text("CREATE TEMPORARY TABLE recommendation (x integer)"))
        connection.execute(text("SELECT create_recommendation_partition(7)"))
        columns = connection.scalars(
            text(
                "SELECT attname FROM pg_attribute WHERE attnum > 0 "
                "AND attrelid = 'public.recommendation_run_7'::regclass ORDER BY attnum"
            )
        ).all()
    assert columns == ["run_id", "user_key", "kind", "outfit_keys", "scores"]
