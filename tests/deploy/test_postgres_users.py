"""users.sql: who may log in, as whom, with which password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from recjob.store.embedded import EmbeddedServer, _programs
from tests.deploy.manifests import DEPLOY

USERS = {
    "recjob_scheduler": "recjob_writer",
    "recjob_shop": "recjob_reader",
    "recjob_watcher": "recjob_monitor",
}
ODD_PASSWORD = 'it\'s a "test" \\ $x :y'


@pytest.fixture
def database(new_database: Callable[[bool], URL]) -> Iterator[URL]:
    """A migrated database of a server on which none of the users is left behind."""
    url = new_database(True)
    yield url
    with _connect(url) as connection:
        for name in USERS:
            connection.execute(f"DROP ROLE IF EXISTS {name}".encode())


def _connect(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True
    )


def _run(
    url: URL, file: Path = DEPLOY / "postgres" / "users.sql", **passwords: str
) -> subprocess.CompletedProcess[str]:
    where = ("--host", str(url.query["host"]), "--username", str(url.username))
    command = (_programs() / "psql", "--no-psqlrc", "--quiet", *where)
    return subprocess.run(
        [*command, "--dbname", str(url.database), "--file", str(file)],
        env={"PATH": os.environ["PATH"]} | passwords,
        capture_output=True,
        text=True,
        check=False,
    )


def _verifies(password: str, verifier: str) -> bool:
    """Whether a stored SCRAM-SHA-256 verifier (RFC 5803) is that of the password."""
    _, parameters, keys = verifier.split("$")
    iterations, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(salt), int(iterations)
    )
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest() == base64.b64decode(keys.split(":")[0])


def _verifier(url: URL, name: str) -> str:
    with _connect(url) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_each_user_has_one_role_and_no_other_right(database: URL) -> None:
    done = _run(database, SCHEDULER_PASSWORD="a", SHOP_PASSWORD="b", WATCHER_PASSWORD="c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with _connect(database) as connection:
        for name, role in USERS.items():
            granted = connection.execute(
                "SELECT array_agg(roleid::regrole::text) FROM pg_auth_members "
                "WHERE member = %s::regrole",
                (name,),
            ).fetchone()
            assert granted == ([role],)
            rights = connection.execute(
                "SELECT rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication "
                "OR rolbypassrls FROM pg_roles WHERE rolname = %s",
                (name,),
            ).fetchone()
            assert rights == (True, False)


def test_run_again_it_rotates_the_passwords_that_it_is_given(database: URL) -> None:
    assert _run(database, SCHEDULER_PASSWORD="old", SHOP_PASSWORD="stays").returncode == 0
    assert _verifies("old", _verifier(database, "recjob_scheduler"))
    shop = _verifier(database, "recjob_shop")
    assert _run(database, SCHEDULER_PASSWORD=ODD_PASSWORD, SHOP_PASSWORD="").returncode == 0
    scheduler = _verifier(database, "recjob_scheduler")
    assert scheduler.startswith("SCRAM-SHA-256$")
    assert _verifies(ODD_PASSWORD, scheduler)
    assert not _verifies("old", scheduler)
    assert _verifier(database, "recjob_shop") == shop
    with _connect(database) as connection:
        made = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'recjob_watcher'")
        assert made.fetchone() is None


def test_without_the_roles_it_makes_nobody(
    new_database: Callable[[bool], URL], tmp_path: Path
) -> None:
    """Roles are the server's: so a role of another name is asked for."""
    url = new_database(True)
    text = (DEPLOY / "postgres" / "users.sql").read_text(encoding="utf-8")
    file = tmp_path / "users.sql"
    file.write_text(text.replace("'recjob_writer'", "'no_such_role'"), encoding="utf-8")
    done = _run(url, file, SCHEDULER_PASSWORD="secret-word")
    assert done.returncode != 0
    assert "no_such_role" in done.stderr
    assert "secret-word" not in done.stderr
    with _connect(url) as connection:
        made = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'recjob_scheduler'")
        assert made.fetchone() is None


def test_the_passwords_are_not_in_the_servers_log(database: URL, postgres: EmbeddedServer) -> None:
    with _connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database.database} SET log_statement = 'all'".encode())
    assert _run(database, SCHEDULER_PASSWORD="planted-word-7261").returncode == 0
    log = (postgres.folder / "server.log").read_text(encoding="utf-8", errors="replace")
    assert "set log_statement = 'none'" in log.lower()  # so the log did hear of this session
    assert "planted-word-7261" not in log
