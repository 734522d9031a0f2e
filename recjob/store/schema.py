"""The schema's version: migrate up and down, and find out how it stands with this code."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from recjob.errors import RefusedError, UserError

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
LOCK_CLASS = 7303
"""First number of the advisory lock held while migrating; any constant of our own."""


_EXTENSION_MISSING = (
    psycopg.errors.FeatureNotSupported,  # extension "vector" is not available
    psycopg.errors.UndefinedFile,  # the same, before Postgres 15
    psycopg.errors.UndefinedObject,  # type "halfvec" does not exist: pgvector before 0.7
)


class SchemaState(StrEnum):
    """How the database's schema stands with this code."""

    CURRENT = "current"
    MISSING = "missing"
    BEHIND = "behind"
    UNKNOWN = "unknown"
    """A version that this code does not have: the database is newer than the code."""


def schema_version(connection: Connection) -> str | None:
    """The database's revision; None where nothing is there."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def code_version() -> str:
    """The newest revision that this code has."""
    head = _scripts().get_current_head()
    assert head is not None
    return head


def schema_state(connection: Connection) -> SchemaState:
    """Compare the database's revision with the code's."""
    found = schema_version(connection)
    if found is None:
        return SchemaState.MISSING
    if found == code_version():
        return SchemaState.CURRENT
    known = {script.revision for script in _scripts().walk_revisions()}
    return SchemaState.BEHIND if found in known else SchemaState.UNKNOWN


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate up, in one transaction; waits for another process that is at it.

    `engine` connects as a user who may create roles. Raises UserError where Postgres lacks the
    extension pgvector or the user a right, RefusedError where the database is newer than the code.
    """
    _migrate(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Migrate down, in one transaction. The tables above `revision` and their rows are gone.

    Raises UserError for a version that does not exist; otherwise as `upgrade`.
    """
    _migrate(engine, lambda config: command.downgrade(config, revision))


def _migrate(engine: Engine, run: Callable[[Config], None]) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock, 0)"), {"lock": LOCK_CLASS})
            if schema_state(connection) is SchemaState.UNKNOWN:
                raise RefusedError(
                    f"the database's schema has version {schema_version(connection)}, which this "
                    "code does not know; use the code that made it, or a newer one"
                )
            config = _config()
            config.attributes["connection"] = connection
            run(config)
    except CommandError as error:
        versions = [script.revision for script in _scripts().walk_revisions()]
        raise UserError(
            f"the schema cannot be migrated: {error}; its versions are base, "
            f"{', '.join(sorted(versions))}"
        ) from None
    except DBAPIError as error:
        line = str(error.orig).splitlines()[0]
        if isinstance(error.orig, _EXTENSION_MISSING) and "vec" in line:
            raise UserError(
                "the Postgres server lacks the extension pgvector 0.7 or newer; install it there"
            ) from None
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise UserError(
                f"the database user may not migrate ({line}); let an administrator run "
                "`python cli.py db upgrade`"
            ) from None
        raise


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
