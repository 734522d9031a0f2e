"""A Postgres that is reached by TCP alone, with passwords and TLS, as on a server of one's own.

Two kinds: Debian's own server, which has no pgvector, so that only connections can be tried; and
the embedded package's, which has pgvector and was built without OpenSSL, so that `tls_front` does
the TLS for it, as PgBouncer does on many sites.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from recjob.store.embedded import SUPERUSER, _programs
from recjob.store.os_user import OsUser, server_user
from tests.fixtures_database import scratch_folder
from tests.tls_front import tls_front

START_SECONDS: Final = 120
HOST: Final = "localhost"
"""The only name in the server's certificate."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class TlsServer:
    """A running server."""

    folder: Path
    port: int
    inner: int
    """The port of the server itself; its socket is named after it."""
    authority: Path
    """Certificate of the authority that signed the server's."""
    stranger: Path
    """Certificate of another authority."""

    def url(self, user: str, password: str, database: str, host: str = HOST, **options: str) -> str:
        """A URL as a user writes it; `options` go before verify-full and the authority."""
        query = {"sslmode": "verify-full", "sslrootcert": str(self.authority)} | options
        who = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{who}@{host}:{self.port}/{database}?{urlencode(query)}"

    def execute(self, *statements: str, database: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """As the superuser, by the socket; the last one's rows."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(
            host=str(self.folder), port=self.inner, user=SUPERUSER, dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def new_database(self) -> str:
        """An empty database; its name."""
        name = f"shop_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def set_password(self, user: str, password: str, options: str = "") -> None:
        """Make a login user, or give one another password."""
        found = self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'")
        statement = sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(
            sql.SQL("ALTER" if found else "CREATE"),
            sql.Identifier(user),
            sql.SQL(options),
            sql.Literal(password),
        )
        self.execute(statement.as_string())

    def connections(self, user: str) -> list[str]:
        """What the log says of each connection of a user."""
        lines = (self.folder / "server.log").read_text().splitlines()
        return [line for line in lines if f"connection authorized: user={user} " in line]


def debian_programs() -> Path:
    """Folder of the programs of Debian's newest Postgres."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "apt-get install postgresql"
    return found[-1].parent


@contextmanager
def debian_server() -> Iterator[TlsServer]:
    """Debian's, which speaks TLS itself and takes nothing else (hostssl)."""
    with scratch_folder() as home, _server(home, debian_programs(), tls=True) as (folder, port):
        yield TlsServer(folder, port, port, home / "authority.crt", home / "stranger.crt")


@contextmanager
def fronted_server() -> Iterator[TlsServer]:
    """The embedded package's behind a `tls_front`."""
    with (
        scratch_folder() as home,
        _server(home, _programs(), tls=False) as (folder, inner),
        tls_front(inner, home / "server.crt", home / "server.key") as port,
    ):
        yield TlsServer(folder, port, inner, home / "authority.crt", home / "stranger.crt")


@contextmanager
def _server(home: Path, programs: Path, *, tls: bool) -> Iterator[tuple[Path, int]]:
    """Start one on a free port, with scram-sha-256 passwords; its data folder and port."""
    folder = home / "data"
    os_user = server_user((home, programs / "postgres"))
    folder.mkdir(mode=0o700)
    _make_certificates(home)
    for name in ("server.crt", "server.key"):
        (home / name).chmod(0o600)
    if os_user.uid is not None and os_user.gid is not None:
        for path in (folder, home / "server.crt", home / "server.key"):
            shutil.chown(path, os_user.uid, os_user.gid)
    _succeed(
        os_user,
        *(str(programs / "initdb"), "-D", str(folder), f"--username={SUPERUSER}"),
        *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    _configure(home, folder, port, tls)
    control = (str(programs / "pg_ctl"), "-w", "-t", str(START_SECONDS))
    _succeed(os_user, *control, "start", "-l", "server.log", data_folder=folder)
    try:
        yield folder, port
    finally:
        _succeed(os_user, *control, "stop", "-m", "immediate", data_folder=folder)


def _configure(home: Path, folder: Path, port: int, tls: bool) -> None:
    settings: dict[str, object] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "password_encryption": "scram-sha-256",
        "log_connections": "on",
        "fsync": "off",
    }
    if tls:
        settings |= {"ssl": "on", "ssl_cert_file": home / "server.crt"}
        settings |= {"ssl_key_file": home / "server.key"}
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    with (folder / "postgresql.conf").open("a") as file:
        file.write(lines)
    (folder / "pg_hba.conf").write_text(
        f"local all {SUPERUSER} trust\n{'hostssl' if tls else 'host'} all all all scram-sha-256\n"
    )


def _make_certificates(home: Path) -> None:
    """Two authorities, and a certificate for `HOST` by the first."""
    for name in ("authority", "stranger"):
        _openssl(
            home,
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"),
            *(f"/CN=recjob test {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    (home / "names").write_text(f"subjectAltName = DNS:{HOST}\n")
    _openssl(
        home,
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={HOST}"),
        *("-keyout", "server.key", "-out", "server.csr"),
    )
    _openssl(
        home,
        *("x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "authority.crt"),
        *("-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names", "-out", "server.crt"),
    )


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _succeed(os_user: OsUser, *command: str, data_folder: Path | None = None) -> None:
    code, output = os_user.run(*command, timeout=2 * START_SECONDS, data_folder=data_folder)
    assert code == 0, output
