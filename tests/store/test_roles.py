"""What each role may do, tried on everything that the schema has, as Postgres itself lists it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, text

from recjob.store import schema
from recjob.store.catalog_store import read_keys
from recjob.store.database import Database, administrator
from tests.store.folders import shop, write
from tests.store.runs import run_lists, write_run

READERS: Final = {"current_recommendation", "item", "outfit", "outfit_item"}
MONITORS: Final = {
    "alembic_version",
    "embedding_set",
    "engine",
    "gate_decision",
    "job_run",
    "ledger_total",
    "model",
    "publication",
    "recommendation_run",
    "schedule_run",
    "schedule_total",
}
WRITERS_BLIND: Final = {"installation"}
"""What not even jobs read: the key of the tombstones."""

OURS: Final = "NOT EXISTS (SELECT FROM pg_depend WHERE pg_depend.objid = {0}.oid AND deptype = 'e')"
RELATIONS: Final = f"""
SELECT relname, relkind, (
    SELECT attname FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attnum > 0 AND attidentity = '' AND NOT attisdropped
    ORDER BY attnum LIMIT 1
) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
AND {OURS.format("pg_class")} ORDER BY 1
"""
FUNCTIONS: Final = f"""
SELECT proname, array_to_string(ARRAY (
    SELECT format('NULL::%s', format_type(kind, NULL)) FROM unnest(proargtypes) AS kind
), ', '), prosecdef, coalesce(proconfig, '{{}}'), ARRAY (
    SELECT format_type(kind, NULL) FROM unnest(proargtypes) AS kind
) FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND {OURS.format("pg_proc")}
ORDER BY 1
"""
RIGHTS: Final = """
SELECT 'relation', relname, relowner::text, relacl::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'function', proname, proowner::text, proacl::text FROM pg_proc
WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'schema', nspname, nspowner::text, nspacl::text FROM pg_namespace
WHERE nspname = 'public'
UNION ALL SELECT 'default', defaclrole::text, defaclobjtype::text, defaclacl::text
FROM pg_default_acl
UNION ALL SELECT 'member', roleid::text, member::text, admin_option::text FROM pg_auth_members
ORDER BY 1, 2, 3
"""
ROWS: Final = {
    "select": "SELECT * FROM {table}",
    "insert": "INSERT INTO {table} DEFAULT VALUES",
    "update": "UPDATE {table} SET {column} = NULL WHERE false",
    "delete": "DELETE FROM {table} WHERE false",
}
FORM: Final = {
    "truncate": "TRUNCATE {table}",
    "alter": "ALTER TABLE {table} ADD COLUMN mine integer",
    "drop": "DROP TABLE {table} CASCADE",
    "rename": "ALTER TABLE {table} RENAME TO mine",
    "own": "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "index": "CREATE INDEX ON {table} ({column})",
    "trigger": "CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "rule": "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
    "detach": "ALTER TABLE public.recommendation DETACH PARTITION {table}",
    "partition": "CREATE TABLE public.mine PARTITION OF {table} DEFAULT",
    "inherit": "CREATE TEMPORARY TABLE mine () INHERITS ({table})",
    "view": "DROP VIEW {table}",
    "replace": "CREATE OR REPLACE VIEW {table} AS SELECT 1 AS mine",
    "comment": "COMMENT ON TABLE {table} IS 'mine'",
    "policy": "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "vacuum full": "CLUSTER {table}",
}
SEQUENCE: Final = {
    "next": "SELECT nextval({name})",
    "set": "SELECT setval({name}, 1)",
    "read": "SELECT * FROM {table}",
    "alter": "ALTER SEQUENCE {table} RESTART",
    "drop": "DROP SEQUENCE {table} CASCADE",
}
FUNCTION: Final = {
    "alter": "ALTER FUNCTION {table} SECURITY INVOKER",
    "drop": "DROP FUNCTION {table}",
    "rename": "ALTER FUNCTION {table} RENAME TO mine",
}
BEYOND: Final = (
    "CREATE TABLE public.mine (x integer)",
    "CREATE VIEW public.mine AS SELECT 1",
    "CREATE SEQUENCE public.mine",
    "CREATE TYPE public.mine AS (x integer)",
    "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION pg_stat_statements",
    "CREATE ROLE mine",
    "DROP SCHEMA public CASCADE",
    "DROP EXTENSION vector CASCADE",
    "DROP ROLE recjob_monitor",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER DEFAULT PRIVILEGES FOR ROLE recjob_owner GRANT ALL ON TABLES TO PUBLIC",
    "GRANT recjob_owner TO CURRENT_USER",
    "SET LOCAL ROLE recjob_owner",
    "SET LOCAL SESSION AUTHORIZATION recjob_owner",
    "REASSIGN OWNED BY recjob_owner TO CURRENT_USER",
    "DROP OWNED BY recjob_owner",
    "SELECT * FROM pg_authid",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)
# Besides the right itself: a view cannot be truncated, an inherited table must not be partitioned.
NO_MATTER: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.WrongObjectType,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedFile,  # of an extension that is not installed
)
Login = Callable[[str | None], psycopg.Connection[Any]]
_numbers = itertools.count(1)


@pytest.fixture
def published(database: Database) -> int:
    """A run that readers see; beside it a kept one and a loose partition."""
    with database.begin() as connection:
        write(connection, shop())
        keys = read_keys(connection)
    lists = run_lists({user: [0, 1] for user in range(-1, len(keys.users))})
    write_run(database, keys, lists, 2)
    run = write_run(database, keys, lists, 2)
    with database.begin() as connection:
        connection.execute(text("SELECT create_recommendation_partition(1000)"))
    return run


@pytest.fixture
def login(database: Database, published: int) -> Iterator[Login]:
    """Connect as a new user who may log in and is granted a role."""
    assert published
    names: list[str] = []
    opened: list[psycopg.Connection[Any]] = []

    def connect(role: str | None) -> psycopg.Connection[Any]:
        name = f"login_{next(_numbers)}_{database.url.database}"
        granted = f" IN ROLE {role}" if role else ""
        as_superuser(database, f"CREATE ROLE {name} LOGIN{granted}")
        names.append(name)
        opened.append(psycopg.connect(conninfo(database.url.set(username=name))))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
    for name in names:
        as_superuser(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def as_superuser(database: Database, *statements: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    with administrator(database.url) as engine, engine.begin() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement.replace("%", "%%"))
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


@contextmanager
def undone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        connection.rollback()


def may(connection: psycopg.Connection[Any], statement: str, **names: str) -> bool:
    """Whether the user has the right; not whether the statement makes sense."""
    query = sql.SQL(statement).format(**{name: sql.SQL(value) for name, value in names.items()})
    with undone(connection):
        try:
            connection.execute(query)
        except NO_MATTER:
            return False
        except psycopg.Error:
            return True
    return True


def relations(database: Database) -> list[tuple[str, str, str | None]]:
    found = as_superuser(database, RELATIONS)
    assert {"item", "current_recommendation", "recommendation_run_1000"} <= {n for n, *_ in found}
    return found


def allowed(database: Database, connection: psycopg.Connection[Any]) -> dict[str, set[str]]:
    """What the user may do to which relation, sequence and function."""
    found: dict[str, set[str]] = {}
    for name, kind, column in relations(database):
        attempts = SEQUENCE if kind == "S" else ROWS | FORM
        for what, statement in attempts.items():
            names = {"table": f"public.{name}", "name": f"'public.{name}'", "column": column or "x"}
            if may(connection, statement, **names):
                found.setdefault(f"{what} sequence" if kind == "S" else what, set()).add(name)
    for name, nulls, *_ in as_superuser(database, FUNCTIONS):
        if may(connection, "SELECT {table}", table=f"public.{name}({nulls})"):
            found.setdefault("execute", set()).add(name)
        for what, statement in FUNCTION.items():
            if may(connection, statement, table=f"public.{name}"):
                found.setdefault(f"{what} function", set()).add(name)
    beyond = {statement for statement in BEYOND if may(connection, statement)}
    return found | ({"beyond": beyond} if beyond else {})


def grant_what_one_has(database: Database, connection: psycopg.Connection[Any]) -> None:
    """A grant without the right to grant is a warning in Postgres, so its effect is looked at."""
    grants = ["GRANT ALL ON SCHEMA public TO PUBLIC"]
    for name, *_ in relations(database):
        grants += [f"GRANT {right} ON public.{name} TO PUBLIC" for right in ("ALL", "SELECT")]
    for grant in grants:
        try:
            connection.execute(grant.encode())
            connection.commit()
        except psycopg.Error:
            connection.rollback()


@pytest.mark.parametrize(
    ("role", "seen"), [(None, set()), ("recjob_reader", READERS), ("recjob_monitor", MONITORS)]
)
def test_who_only_reads(database: Database, login: Login, role: str | None, seen: set[str]) -> None:
    connection = login(role)
    assert allowed(database, connection) == ({"select": seen} if seen else {})
    before = as_superuser(database, RIGHTS)
    grant_what_one_has(database, connection)
    assert as_superuser(database, RIGHTS) == before


def test_who_writes(database: Database, login: Login, published: int) -> None:
    """Rows only, and partitions only through the owner's functions."""
    connection = login("recjob_writer")
    found = allowed(database, connection)
    assert found.keys() == {"select", "insert", "update", "delete", "execute"}
    names = {name for name, kind, _ in relations(database) if kind != "S"}
    assert names - found["select"] == WRITERS_BLIND
    lists = {name for name in names if name.startswith("recommendation")} - {"recommendation_run"}
    assert f"recommendation_run_{published}" in lists
    # The loose partition is not sealed yet.
    assert found["insert"] & lists == {"recommendation_run_1000"}
    assert not (found["update"] | found["delete"]) & lists
    before = as_superuser(database, RIGHTS)
    grant_what_one_has(database, connection)
    assert as_superuser(database, RIGHTS) == before


def test_the_published_run_stays(database: Database, login: Login, published: int) -> None:
    connection = login("recjob_writer")
    with undone(connection), pytest.raises(psycopg.errors.RaiseException, match="is published"):
        connection.execute("SELECT drop_recommendation_partition(%s)", (published,))
    with undone(connection):
        connection.execute("SELECT drop_recommendation_partition(%s)", (published - 1,))
    assert as_superuser(database, "SELECT count(*) FROM current_recommendation")[0][0] > 0


@pytest.mark.parametrize("number", [None, 0, -5])
def test_partitions_are_for_runs_alone(login: Login, number: int | None) -> None:
    connection = login("recjob_writer")
    with undone(connection), pytest.raises(psycopg.errors.RaiseException, match="no run has the"):
        connection.execute("SELECT create_recommendation_partition(%s)", (number,))


def test_an_older_servers_everybody_makes_nothing(new_database: Callable[[bool], URL]) -> None:
    """Before Postgres 15 PUBLIC had the right to."""
    with administrator(new_database(False)) as engine:
        with engine.begin() as connection:
            connection.execute(text("GRANT CREATE ON SCHEMA public TO PUBLIC"))
        schema.upgrade(engine)
        with engine.begin() as connection:
            query = "SELECT has_schema_privilege('recjob_reader', 'public', 'CREATE')"
            assert connection.scalar(text(query)) is False


def test_a_condition_of_a_reader_sees_nothing_beyond_the_view(
    database: Database, login: Login
) -> None:
    """The planner must not show it users of whom the view has no list."""
    as_superuser(database, "INSERT INTO app_user (user_id) VALUES ('newcomer')")
    connection = login("recjob_reader")
    told: list[str] = []
    connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    connection.execute(
        "CREATE FUNCTION pg_temp.tell(told text) RETURNS boolean LANGUAGE plpgsql STABLE "
        "COST 0.0001 "
        "AS $$ BEGIN RAISE NOTICE '%', told; RETURN true; END $$"
    )
    rows = connection.execute(
        "SELECT DISTINCT user_id FROM current_recommendation WHERE pg_temp.tell(user_id)"
    ).fetchall()
    assert {user for (user,) in rows if user} == {user for user in told if user != "<NULL>"}
    assert told
    assert "newcomer" not in told


def test_one_users_list_is_still_found_by_the_keys(database: Database, login: Login) -> None:
    """The barrier lets an equality pass, so that a reader's query does not scan all lists."""
    connection = login("recjob_reader")
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN (COSTS OFF) SELECT * FROM current_recommendation WHERE user_id = 'u1'"
    ).fetchall()
    lines = "\n".join(line for (line,) in plan)
    assert "Index Cond: (user_id = 'u1'::text)" in lines, lines
    assert "Index Cond: (user_key = app_user.user_key)" in lines or "run_id" in lines, lines


ARGUMENTS: Final = {
    "integer": "1001",
    "integer[]": "'{1}'",
    "text": "'nobody'",
    "text[]": "'{nobody}'",
    "bytea": "'\\x00'",
    "jsonb": "'{}'",
    "interval": "'1 day'",
    "timestamp with time zone": "'-infinity'",
}
TRAP: Final = """
CREATE FUNCTION trap.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'fooled' USING ERRCODE = 'ZZ999'; END $$;
CREATE FUNCTION trap.format(text, integer) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'fooled' USING ERRCODE = 'ZZ999'; END $$;
CREATE FUNCTION trap.cardinality(integer[]) RETURNS integer LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'fooled' USING ERRCODE = 'ZZ999'; END $$;
CREATE FUNCTION trap.same(integer, integer) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'fooled' USING ERRCODE = 'ZZ999'; END $$;
CREATE OPERATOR trap.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = trap.same);
"""
CARELESS: Final = """
CREATE FUNCTION public.careless(run integer) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN RETURN format('run %s', run); END $$;
CREATE FUNCTION public.forgetful() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN RETURN (SELECT count(*) FROM publication); END $$;
GRANT EXECUTE ON FUNCTION public.careless, public.forgetful TO recjob_writer;
"""


def test_the_owners_functions_are_not_fooled(database: Database, login: Login) -> None:
    """By tables, functions and operators that a caller puts in front of the real ones."""
    functions = as_superuser(database, FUNCTIONS)
    lent = {name for name, _, definer, *_ in functions if definer}
    assert {"create_recommendation_partition", "analyze_catalog"} <= lent
    for name, _, definer, options, _ in functions:
        if definer:
            assert "search_path=pg_catalog, pg_temp" in options, name
    tables = [name for name, kind, _ in relations(database) if kind in "rp"]
    as_superuser(database, "CREATE SCHEMA trap", "GRANT ALL ON SCHEMA trap TO PUBLIC", CARELESS)
    connection = login("recjob_writer")
    connection.execute(TRAP)
    for name in tables:
        connection.execute(f"CREATE TABLE trap.{name} (trapped integer)".encode())
        connection.execute(f"CREATE TEMPORARY TABLE {name} (trapped integer)".encode())
    connection.execute("SET search_path = pg_temp, trap, pg_catalog, public")
    connection.commit()

    def fooled(name: str, kinds: list[str]) -> bool:
        arguments = ", ".join(f"{ARGUMENTS[kind]}::{kind}" for kind in kinds)
        with undone(connection):
            try:
                connection.execute(f"SELECT public.{name}({arguments})".encode())
            except (psycopg.errors.UndefinedColumn, psycopg.errors.DatatypeMismatch):
                return True
            except psycopg.Error as error:
                return error.sqlstate == "ZZ999"
        return False

    assert fooled("careless", ["integer"])
    assert not any(fooled(name, kinds) for name, _, definer, _, kinds in functions if definer)
    # A temporary table comes before any schema of an ordinary path: this one counts no row.
    assert connection.execute("SELECT public.forgetful()").fetchall() == [(0,)]
    assert connection.execute("SELECT public.analyze_catalog()").fetchall()
