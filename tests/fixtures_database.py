"""Fixtures for tests on Postgres: one embedded server per session, a fresh database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from recjob.settings import Settings
from recjob.store import embedded, schema
from recjob.store.database import Database, administrator, open_database

TEMPLATE = "template_recjob"
_numbers = itertools.count(1)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for a server's data: in memory where there is room, since disks are slow to sync.

    Not pytest's own folder: its path is long, and the server's OS user has to pass through it.
    """
    memory = Path("/dev/shm")
    room = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30
    with tempfile.TemporaryDirectory(prefix="recjob-", dir=memory if room else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.EmbeddedServer]:
    """A server of this session, which holds one migrated database as a template."""
    with scratch_folder() as home:
        server = embedded.EmbeddedServer(home / "postgres")
        server.start()
        try:
            with _superuser(server) as connection:
                # A test's data may be lost in a crash of the machine.
                for option in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {option} = off".encode())
                connection.execute("SELECT pg_reload_conf()")
                connection.execute(f"CREATE DATABASE {TEMPLATE}".encode())
            with administrator(server.url.set(database=TEMPLATE)) as engine:
                schema.upgrade(engine)
            yield server
        finally:
            # Writing out what is about to be deleted would take longer than the tests.
            pid = int((home / "postgres" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)
            server.stop()


@pytest.fixture
def new_database(postgres: embedded.EmbeddedServer) -> Callable[[bool], URL]:
    """Make a database, migrated or empty, and return the URL of its superuser."""

    def make(migrated: bool) -> URL:
        name = f"test_{next(_numbers)}"
        with _superuser(postgres) as connection:
            template = TEMPLATE if migrated else "template1"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return postgres.url.set(database=name)

    return make


@pytest.fixture
def database_settings(new_database: Callable[[bool], URL], tmp_path: Path) -> Settings:
    """Settings whose home is the test's folder and whose database is fresh and migrated."""
    return Settings(home=tmp_path / "var", database_url=SecretStr(str(new_database(True))))


@pytest.fixture
def database(database_settings: Settings) -> Iterator[Database]:
    """A fresh, migrated database, opened as jobs open it."""
    with open_database(database_settings) as opened:
        yield opened


def _superuser(server: embedded.EmbeddedServer) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(server.url.query["host"]),
        user=embedded.SUPERUSER,
        dbname=embedded.SUPERUSER,
        autocommit=True,
    )
