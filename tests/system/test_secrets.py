"""No password of the settings is in anything that the program writes, wherever it goes wrong."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.settings import load_settings
from recjob.store.embedded import SUPERUSER, _programs
from tests.command_line import Ended, Run
from tests.fixtures_shop import SETTINGS
from tests.tls_server import TlsServer, fronted_server

pytestmark = pytest.mark.system
DATABASE: Final = "d4tab4se s3cret/1"
STORAGE: Final = "st0rages3cret"
GATEWAY: Final = "g4teways3cret"
SECRETS: Final = (DATABASE, STORAGE, GATEWAY)
WAYS: Final = (
    ("import", "tables", "shop", "--json"),
    ("import", "tables", "newcomers"),
    ("pipeline", "--json"),
    ("gate",),
    ("compare", "--json"),
    ("recommend", "--json"),
    ("runs", "list"),
    ("models", "list", "--json"),
    ("status", "--json"),
    ("doctor", "--json"),
    ("schedule", "--list"),
    ("retention", "--json"),
    ("import", "tables", "nowhere"),
    ("recommend", "nobody"),
    ("db", "downgrade", "none"),
)


@dataclass
class Gateway:
    """What stands for a Pushgateway behind a password, and all that it was sent."""

    port: int
    authorizations: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            found.authorizations.append(self.headers.get("Authorization", ""))
            length = int(self.headers.get("Content-Length", 0))
            found.bodies.append(self.path.encode() + self.rfile.read(length))
            self.send_response(200)
            self.end_headers()

        do_POST = do_DELETE = do_PUT  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Gateway(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    with fronted_server() as started:
        started.set_password("jobs", DATABASE, "SUPERUSER")
        yield started


def test_nothing_tells_a_password(
    server: TlsServer, gateway: Gateway, command: Run, tmp_path: Path
) -> None:
    database = server.new_database()
    (tmp_path / "recjob.toml").write_text(SETTINGS)
    settings = load_settings(tmp_path / "recjob.toml", {})
    write_demo(tmp_path / "shop", tmp_path / "newcomers", settings.demo, settings.seed)
    variables = {
        "RECJOB_DATABASE_URL": server.url("jobs", DATABASE, database),
        "RECJOB_ARTIFACTS_URL": f"memory://reader:{STORAGE}@artifacts",
        "RECJOB_METRICS__SINK": "pushgateway",
        "RECJOB_METRICS__PUSHGATEWAY": f"http://pusher:{GATEWAY}@127.0.0.1:{gateway.port}",
    }
    ended: dict[str, Ended] = {}

    def run(*arguments: str, **changed: str) -> None:
        for form in ("text", "json"):
            words = ("--log-level", "debug", "--log-format", form, *arguments)
            ended[f"{words} {sorted(changed)}"] = command(*words, variables=variables | changed)
            if arguments[0] == "pipeline":
                return  # once is enough

    run("db", "upgrade", "--json")
    for arguments in WAYS:
        run(*arguments)
    codes = {words: end.code for words, end in ended.items()}
    assert sum(code == 0 for code in codes.values()) >= 2 * 8, codes
    away = {
        "RECJOB_DATABASE_URL": server.url(
            "jobs", DATABASE, database, "127.0.0.1", connect_timeout="2"
        ),
    }
    for name, value in {
        "RECJOB_DATABASE_URL": server.url("jobs", f"{DATABASE}x", database),
        "RECJOB_ARTIFACTS_URL": f"sftp://reader:{STORAGE}@127.0.0.1:1/artifacts",
        "RECJOB_METRICS__PUSHGATEWAY": f"http://pusher:{GATEWAY}@127.0.0.1:1",
    }.items():
        run("compile", **{name: value})
        run("status", **{name: value})
    run("report", **away)
    run("report", RECJOB_METRICS__SINK="textfile")
    assert gateway.bodies
    credentials = base64.b64encode(f"pusher:{GATEWAY}".encode()).decode()
    assert set(gateway.authorizations) == {f"Basic {credentials}"}
    for words, end in ended.items():
        assert not told(f"{end.out}{end.err}".encode()), (words, end)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert not told(path.read_bytes()), path
    assert not told(b"\n".join(gateway.bodies))
    assert not told(dump(server, database))


def test_the_search_finds_one(server: TlsServer) -> None:
    database = server.new_database()
    assert not told(dump(server, database))
    server.execute(
        "CREATE TABLE note (words text)",
        f"INSERT INTO note VALUES ('{DATABASE}')",
        database=database,
    )
    assert told(dump(server, database))
    assert told(quote(DATABASE, safe="").encode())


def told(data: bytes) -> list[str]:
    """The secrets that are in it, as they are or as URLs and HTTP have them."""
    return [
        secret
        for secret in SECRETS
        for form in (secret, quote(secret), quote(secret, safe=""))
        if form.encode() in data or base64.b64encode(form.encode())[:-4] in data
    ]


def dump(server: TlsServer, database: str) -> bytes:
    """Every row of every table, and the schema."""
    program = str(_programs() / "pg_dump")
    where = ["-h", str(server.folder), "-p", str(server.inner), "-U", SUPERUSER]
    done = subprocess.run([program, *where, database], capture_output=True, check=True)
    assert b"PostgreSQL database dump complete" in done.stdout
    return done.stdout
