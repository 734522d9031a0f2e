"""The embedded server: shared by processes, and back after any crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from recjob.errors import UserError
from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.embedded import EmbeddedServer
from tests.fixtures_database import scratch_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_home() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder / "var"
        assert postmaster(folder / "var") is None, "the server was left running"


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder / "var"


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    """A home that the tests share, without users, its server stopped before and after."""
    with open_database(Settings(home=shared_home)) as database, database.begin() as connection:
        connection.execute(text("RESET ROLE"))
        connection.execute(text("TRUNCATE app_user CASCADE"))
    yield shared_home
    assert postmaster(shared_home) is None, "the server was left running"


def postmaster(home: Path) -> int | None:
    try:
        return int((home / "postgres" / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


def count_users(home: Path) -> int:
    with open_database(Settings(home=home)) as database, database.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM app_user")) or 0)


def add_user(home: Path, name: str) -> None:
    with open_database(Settings(home=home)) as database, database.begin() as connection:
        connection.execute(text("INSERT INTO app_user (user_id) VALUES (:name)"), {"name": name})


def start_other(home: Path) -> subprocess.Popen[str]:
    """Another process that has the database open until its standard input ends."""
    program = """
        import sys
        from pathlib import Path
        from recjob.settings import Settings
        from recjob.store.database import open_database
        with open_database(Settings(home=Path(sys.argv[1]))):
            print("open", flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    return process


def wait_open(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"


def close_other(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_made_and_migrated_at_open_under_any_path(new_home: Path) -> None:
    """Also one too long for a socket, and full of what shells and Postgres take specially."""
    home = new_home / 'it\'s a "home" with 100% $HOME, ü' / ("long" * 30)
    add_user(home, "a")
    assert postmaster(home) is None
    assert count_users(home) == 1
    with open_database(Settings(home=home)) as database, database.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == "recjob_writer"
        assert database.embedded


def test_two_processes_start_it_at_once_and_the_last_one_stops_it(home: Path) -> None:
    others = [start_other(home) for _ in range(2)]
    for other in others:
        wait_open(other)
    pid = postmaster(home)
    close_other(others[0])
    assert postmaster(home) == pid
    add_user(home, "a")
    assert postmaster(home) == pid
    close_other(others[1])
    assert postmaster(home) is None


def test_a_killed_user_does_not_keep_the_server(home: Path) -> None:
    other = start_other(home)
    wait_open(other)
    other.kill()
    other.communicate()
    assert postmaster(home) is not None  # nobody was left to stop it
    add_user(home, "a")
    assert postmaster(home) is None


def test_a_killed_server_recovers(home: Path) -> None:
    server = EmbeddedServer(home / "postgres")
    server.start()
    add_user(home, "a")
    pid = postmaster(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # its backends die a moment later
    assert count_users(home) == 1
    server.stop()


def test_a_stale_pid_that_belongs_to_another_program(home: Path) -> None:
    """After a restart of a container the same small pids come again."""
    add_user(home, "a")
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (home / "postgres" / "postmaster.pid").write_text(
            f"{sleeper.pid}\n{home}/postgres\n1\n5432\n{home}/postgres\n\n  1 1\nready\n"
        )
        assert count_users(home) == 1
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_killed_start_leaves_nothing_half_made(new_home: Path) -> None:
    for delay in (0.15, 0.4):
        other = start_other(new_home)
        time.sleep(delay)
        other.kill()
        other.communicate()
    assert count_users(new_home) == 0


def test_a_folder_that_is_something_else(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and no Postgres data folder"):
        count_users(new_home)


def test_a_data_folder_of_another_version(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(UserError, match="made by Postgres 9"):
        count_users(new_home)


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="RECJOB_HOME"):
        count_users(tmp_path / "file" / "var")
