"""What a person reads when the database cannot be used."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, text

from recjob.errors import SettingsError, TemporaryError, UserError
from recjob.settings import Settings
from recjob.store.database import Database, open_database, upgrade_database

SECRET = "hunter2"


def open_url(url: str, home: Path) -> Database:
    return open_database(Settings(home=home, database_url=SecretStr(url))).__enter__()


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    with closed_port() as port:
        url = f"postgresql://me:{SECRET}@127.0.0.1:{port}/shop"
        with pytest.raises(TemporaryError) as caught:
            open_url(url, tmp_path)
    message = str(caught.value)
    assert f"127.0.0.1:{port}/shop" in message
    assert SECRET not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@host/shop",
        f"postgresql://me:{SECRET}@host:port/shop",
        f"host=here password={SECRET}",
        "",
    ],
)
def test_a_url_that_is_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="RECJOB_DATABASE_URL") as caught:
        open_url(url, tmp_path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_spellings_of_the_scheme(
    scheme: str, new_database: Callable[[bool], URL], tmp_path: Path
) -> None:
    url = new_database(True).render_as_string(hide_password=False)
    url = url.replace("postgresql+psycopg", scheme)
    with open_database(Settings(home=tmp_path, database_url=SecretStr(url))) as database:
        assert database.url.drivername == "postgresql+psycopg"


def test_a_database_that_does_not_exist_is_the_users_mistake(
    new_database: Callable[[bool], URL], tmp_path: Path
) -> None:
    url = new_database(False).set(database="nothing").render_as_string(hide_password=False)
    with pytest.raises(UserError, match=r'"nothing" does not exist; check RECJOB_DATABASE_URL'):
        open_url(url, tmp_path)


def test_a_connection_option_that_does_not_exist(
    new_database: Callable[[bool], URL], tmp_path: Path
) -> None:
    url = new_database(True).update_query_dict({"colour": "red"})
    with pytest.raises(SettingsError, match=r"RECJOB_DATABASE_URL: libpq has no option colour$"):
        open_url(url.render_as_string(hide_password=False), tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cr@t@127.0.0.1:1/shop",
        "postgresql://user:p@s3crt/x@127.0.0.1:1/shop",
        "postgresql://user:pw@127.0.0.1:1/shop?s3crt=1",
        "postgresql://user:pw@127.0.0.1:1/shop?postgresql://user:s3crt@host=1",
    ],
)
def test_what_may_be_a_password_is_not_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="RECJOB_DATABASE_URL is no URL") as caught:
        open_url(url, tmp_path)
    assert "s3cr" not in str(caught.value)
    assert "%40 for an @" in str(caught.value)


def test_upgrade_of_a_server_of_yours(new_database: Callable[[bool], URL], tmp_path: Path) -> None:
    url = new_database(False).render_as_string(hide_password=False)
    upgrade_database(Settings(home=tmp_path, database_url=SecretStr(url)))
    with open_database(Settings(home=tmp_path, database_url=SecretStr(url))) as database:
        assert database.name.endswith(f"/{database.url.database}")


def test_a_lost_connection_is_temporary_and_the_next_one_works(database: Database) -> None:
    def lose() -> None:
        with database.begin() as connection:
            connection.execute(text("INSERT INTO app_user (user_id) VALUES ('a')"))
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with psycopg.connect(
                database.url.set(drivername="postgresql").render_as_string(), autocommit=True
            ) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            connection.execute(text("SELECT 1"))

    with pytest.raises(TemporaryError, match=database.url.database or ""):
        lose()
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM app_user")) == 0


def test_a_missing_right_names_the_role(database: Database) -> None:
    def drop() -> None:
        with database.begin() as connection:
            connection.execute(text("DROP TABLE interaction"))

    with pytest.raises(UserError, match="recjob_writer"):
        drop()


def test_the_role_survives_a_rollback(database: Database) -> None:
    for _ in range(2):
        with database.connect() as connection:
            assert connection.scalar(text("SELECT current_user")) == "recjob_writer"
            connection.rollback()
    alone = database.connect_alone()
    assert alone.execute("SELECT current_user").fetchone() == ("recjob_writer",)
    alone.close()
