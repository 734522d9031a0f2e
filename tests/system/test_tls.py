"""A database by TCP, password and TLS: what the URL says holds for every connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.settings import DemoSettings, load_settings
from recjob.store.database import administrator, read_only_database
from tests.command_line import Run
from tests.tls_server import TlsServer, debian_server, fronted_server

pytestmark = pytest.mark.system
ADMINISTRATOR = "s3cret of the administrator"
JOBS = "p4ss/w?rd @ of:jobs"
SMALL = {"RECJOB_IMAGES__SIZE": "64", "RECJOB_AUTOENCODER__IMAGE_SIZE": "64"}


@dataclass(frozen=True)
class Site:
    """A migrated database, and the users who may log in to it."""

    server: TlsServer
    database: str

    @property
    def url(self) -> str:
        """Of the jobs."""
        return self.server.url("jobs", JOBS, self.database)


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    """With pgvector."""
    with fronted_server() as started:
        started.set_password("administrator", ADMINISTRATOR, "SUPERUSER")
        started.set_password("jobs", JOBS)
        yield started


@pytest.fixture(scope="module")
def debian() -> Iterator[TlsServer]:
    """With TLS of its own."""
    with debian_server() as started:
        started.set_password("jobs", JOBS)
        yield started


@pytest.fixture
def site(server: TlsServer, command: Run) -> Site:
    """As the runbook has it: the administrator migrates, then grants the role to the jobs' user."""
    database = server.new_database()
    url = server.url("administrator", ADMINISTRATOR, database)
    assert command("db", "upgrade", "--json", variables=variables(url)).json["version"]
    server.execute("GRANT recjob_writer TO jobs", database=database)
    server.set_password("jobs", JOBS)
    return Site(server, database)


def variables(url: str) -> dict[str, str]:
    return {"RECJOB_DATABASE_URL": url} | SMALL


def test_jobs_work_and_all_their_connections_are_encrypted(
    site: Site, command: Run, tmp_path: Path
) -> None:
    shop = DemoSettings(
        items=60, users=4, cold_starters=0, strangers=0, outfits_per_user=8, image_size=64
    )
    write_demo(tmp_path / "shop", tmp_path / "newcomers", shop, 0)
    imported = command("import", "tables", "shop", "--json", variables=variables(site.url))
    assert imported.json["items"]["added"] == 60
    assert json.loads(command("models", "list", "--json", variables=variables(site.url)).out) == {
        "models": []
    }
    # The pool's, and one of its own for the locks; the server is reached through TLS alone.
    assert len(site.server.connections("jobs")) >= 3


def test_every_way_to_connect_is_encrypted(debian: TlsServer) -> None:
    """As the server says: the pool, the connections beside it, and those of migrations."""
    url = debian.url("jobs", JOBS, "postgres")
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    settings = load_settings(None, {"RECJOB_DATABASE_URL": url})
    with read_only_database(settings) as database:
        with database.connect() as connection:
            assert connection.exec_driver_sql(query).scalar() is True
        with database.connect_alone() as alone:
            assert alone.execute(query).fetchall() == [(True,)]
        with administrator(database.url) as engine, engine.connect() as connection:
            assert connection.exec_driver_sql(query).scalar() is True


@pytest.mark.parametrize("kind", ["server", "debian"])
def test_what_is_refused_is_the_users_to_mend(
    kind: str, request: pytest.FixtureRequest, command: Run, tmp_path: Path
) -> None:
    server: TlsServer = request.getfixturevalue(kind)
    database = "postgres"
    attempts = {
        "certificate verify failed": server.url(
            "jobs", JOBS, database, sslrootcert=str(server.stranger)
        ),
        'does not match host name "127.0.0.1"': server.url("jobs", JOBS, database, "127.0.0.1"),
        "password authentication failed": server.url("jobs", JOBS + "x", database),
        "no encryption": server.url("jobs", JOBS, database, sslmode="disable"),
        "does not exist": server.url("jobs", JOBS, database, sslrootcert=str(tmp_path / "none")),
        "invalid sslmode value": server.url("jobs", JOBS, database, sslmode="verify-all"),
        'database "nowhere" does not exist': server.url("jobs", JOBS, "nowhere"),
    }
    for reason, url in attempts.items():
        for arguments in (("models", "list"), ("db", "upgrade"), ("compile",)):
            message = command(*arguments, variables=variables(url)).error(2)
            assert message.startswith("database ")
            assert reason in message, (reason, message)
            assert "p4ss" not in message
            assert "RECJOB_DATABASE_URL" in message


def test_the_password_is_rotated(site: Site, command: Run) -> None:
    """As the runbook has it: the server first, then the variable; jobs at work go on."""
    new = "n3w password"
    site.server.set_password("jobs", new)
    refused = command("models", "list", variables=variables(site.url)).error(2)
    assert "password authentication failed" in refused
    url = site.server.url("jobs", new, site.database)
    assert command("models", "list", "--json", variables=variables(url)).json == {"models": []}


def test_a_login_without_a_role_is_told(site: Site, command: Run) -> None:
    site.server.set_password("nobody", "n0body")
    url = site.server.url("nobody", "n0body", site.database)
    message = command("models", "list", variables=variables(url)).error(2)
    assert "grant the user the role recjob_writer" in message
    assert "n0body" not in message
