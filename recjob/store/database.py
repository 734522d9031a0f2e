"""The database: open it, connect, and turn its errors into ours.

`RECJOB_DATABASE_URL` names a server; without it the embedded one under `<home>/postgres` is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError

from recjob.errors import NotFoundError, SettingsError, TemporaryError, UserError
from recjob.settings import Settings
from recjob.store import schema
from recjob.store.embedded import EmbeddedServer

DRIVER = "postgresql+psycopg"
CONNECT_SECONDS = 10
"""Longest wait for a connection, where the URL does not say."""
NO_URL = (
    "RECJOB_DATABASE_URL is no URL of a Postgres database; it looks like "
    "postgresql://user:password@host:5432/database, with %40 for an @ in the password"
)
"""Without what is wrong with it: the parsers quote it, and it may be the password."""
_OPTIONS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
_OPTION = r"[a-z_]{1,40}"
"""How the options of libpq are written; anything else in their place may be a secret."""
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "certificate verify failed",
    "does not match host name",
    "could not get server's host name from server certificate",
    "root certificate file",
    "certificate file",
    "private key file",
    "server does not support SSL",
    "channel binding is required",
    "invalid sslmode value",
    "invalid port number",
    "tlsv1 alert",
    "sslv3 alert",
)
DATA_FOLDER = "postgres"
WRITER = "recjob_writer"


@dataclass(frozen=True)
class Database:
    """A database whose schema is this code's.

    Connections work as the role recjob_writer where the user may become it, so that jobs cannot do
    more than they need, even on a superuser's URL.
    """

    url: URL
    engine: Engine
    embedded: bool

    @property
    def name(self) -> str:
        """Host, port and database for messages; never the password."""
        return _name(self.url)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading; what is written and not committed is rolled back.

        Raises TemporaryError when the database goes away, UserError when a right is missing.
        """
        with translated(self.name), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception. Errors as `connect`."""
        with translated(self.name), self.engine.begin() as connection:
            yield connection

    def connect_alone(self) -> psycopg.Connection[Any]:
        """A connection of the caller's own, outside the pool, in autocommit: for session locks.

        Errors as `connect`.
        """
        with translated(self.name):
            connection = psycopg.connect(
                make_conninfo(**_libpq_options(self.url)),
                autocommit=True,
                **_connect_arguments(self.url),
            )
            try:
                _become_writer(connection)
            except BaseException:
                connection.close()
                raise
            return connection


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database of the settings; the embedded one is started and migrated as needed.

    Raises TemporaryError when the server does not answer, SettingsError for a URL that is none,
    UserError when the schema of a server of yours is missing or old (`python cli.py db upgrade`).
    """
    with _running(settings) as (url, embedded):
        engine = _engine(url)
        event.listen(engine, "connect", lambda connection, _: _become_writer(connection))
        try:
            database = Database(url, engine, embedded)
            with database.connect() as connection:
                state = schema.schema_state(connection)
            if state is not schema.SchemaState.CURRENT:
                if not embedded:
                    raise UserError(
                        f"database {database.name}: its schema is {state}; run "
                        "`python cli.py db upgrade`"
                    )
                with administrator(url) as admin_engine:
                    schema.upgrade(admin_engine)
                engine.dispose()  # its connection was made before there was a role to become
            yield database
        finally:
            engine.dispose()


def embedded_is_there(settings: Settings) -> bool:
    """Whether the home folder holds the data of an embedded server."""
    return (settings.home / DATA_FOLDER / "PG_VERSION").is_file()


@contextmanager
def read_only_database(settings: Settings) -> Iterator[Database]:
    """The database of the settings as it is, whatever its schema; its connections only read.

    Raises NotFoundError where the embedded server has no data yet: nothing is made. Otherwise as
    `open_database`, but for the schema.
    """
    if settings.database_url is None and not embedded_is_there(settings):
        raise NotFoundError(
            f"nothing here yet: {settings.home / DATA_FOLDER} does not exist; the first import "
            "makes it"
        )

    def only_read(connection: psycopg.Connection[Any], _: object) -> None:
        _become_writer(connection)
        connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    with _running(settings) as (url, embedded):
        engine = _engine(url)
        event.listen(engine, "connect", only_read)
        try:
            yield Database(url, engine, embedded)
        finally:
            engine.dispose()


def upgrade_database(settings: Settings) -> None:
    """`db upgrade`: migrate the database of the settings to this code's version."""
    with _running(settings) as (url, _), administrator(url) as engine, translated(_name(url)):
        schema.upgrade(engine)


def downgrade_database(settings: Settings, revision: str) -> None:
    """`db downgrade`: migrate down to `revision` ("base": nothing is left)."""
    with _running(settings) as (url, _), administrator(url) as engine, translated(_name(url)):
        schema.downgrade(engine, revision)


@contextmanager
def _running(settings: Settings) -> Iterator[tuple[URL, bool]]:
    if settings.database_url is not None:
        yield _parse(settings.database_url.get_secret_value()), False
        return
    server = EmbeddedServer(settings.home / DATA_FOLDER)
    server.start()
    try:
        yield server.url, True
    finally:
        server.stop()


def _parse(text: str) -> URL:
    try:
        # libpq's own spelling, which SQLAlchemy no longer takes
        url = make_url(text.replace("postgres://", "postgresql://", 1))
        if url.get_backend_name() != "postgresql":
            raise ArgumentError(url.get_backend_name())
        # Behind an @ that is not escaped the rest of a password would count as a name, and be told.
        if "@" in f"{url.host}{url.database}":
            raise ArgumentError("@")
        url = url.set(drivername=DRIVER)
        make_conninfo(**_libpq_options(url))
    except psycopg.ProgrammingError:
        unknown = [name for name in url.query if name not in _OPTIONS]
        if not all(re.fullmatch(_OPTION, name) for name in unknown):
            raise SettingsError(NO_URL) from None
        raise SettingsError(
            f"RECJOB_DATABASE_URL: libpq has no option {', '.join(unknown)}"
        ) from None
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise SettingsError(NO_URL) from None
    return url


@contextmanager
def administrator(url: URL) -> Iterator[Engine]:
    """An engine that stays the user of the URL."""
    engine = _engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _engine(url: URL) -> Engine:
    return create_engine(url, connect_args=_connect_arguments(url), pool_pre_ping=True)


def _connect_arguments(url: URL) -> dict[str, Any]:
    ours = {"connect_timeout": CONNECT_SECONDS, "application_name": "recjob"}
    return {name: value for name, value in ours.items() if name not in url.query}


def _libpq_options(url: URL) -> dict[str, Any]:
    """Host, password, TLS and whatever else the URL says, as SQLAlchemy's pool hands it on.

    A URL that is rendered again would not do: libpq takes no spaces in a password there.
    """
    return dict(url.get_dialect()().create_connect_args(url)[1])


def _name(url: URL) -> str:
    host = url.host or url.query.get("host") or "the local socket"
    port = f":{url.port}" if url.port else ""
    return f"{host}{port}/{url.database or ''}"


def _become_writer(connection: psycopg.Connection[Any]) -> None:
    """SET ROLE recjob_writer, where the role is there and the user may."""
    # SET is the privilege since Postgres 16; before, members may always.
    privilege = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    row = connection.execute(
        "SELECT count(*) FROM pg_roles WHERE rolname = %s AND pg_has_role(oid, %s)",
        (WRITER, privilege),
    ).fetchone()
    if row is not None and row[0]:
        connection.execute(f"SET ROLE {WRITER}")
    if not connection.autocommit:
        connection.commit()


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the driver's errors into ours; `name` says which database in the message."""
    try:
        yield
    except DBAPIError as error:
        _raise_ours(error.orig, name, isinstance(error, InterfaceError))
        raise
    except psycopg.Error as error:
        _raise_ours(error, name, False)
        raise


def _raise_ours(error: BaseException | None, name: str, lost: bool) -> None:
    """Raise our error for one of the driver's that a person can do something about."""
    line = (str(error).strip().splitlines() or ["no answer"])[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        raise UserError(
            f"database {name}: {line}; grant the user the role {WRITER}, or use another user"
        ) from error
    if isinstance(error, psycopg.errors.ProgramLimitExceeded):
        return  # no retry helps
    if isinstance(error, psycopg.OperationalError) or lost:
        if _is_refusal(error):
            raise UserError(f"database {name}: {line}; check RECJOB_DATABASE_URL") from None
        raise TemporaryError(f"database {name}: {line}") from None


def _is_refusal(error: BaseException | None) -> bool:
    """The server is there and does not want us, or we do not trust it: no retry helps.

    Neither libpq nor the server gives a code for that, only words.
    """
    text = str(error)
    return isinstance(error, psycopg.OperationalError) and (
        any(words in text for words in _REFUSALS) or ("FATAL" in text and "does not exist" in text)
    )
