"""Locks that exclude, end with their holder, and a lease that a later run takes away."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from recjob.errors import LockedError, NotFoundError, TemporaryError
from recjob.store.database import Database
from recjob.store.ledger import (
    Lease,
    Locks,
    Resource,
    hold_lease,
    job_run,
    list_job_runs,
)

ROOT = Path(__file__).resolve().parents[2]
WRITES = Locks(writes=frozenset({Resource.CATALOG}))
READS = Locks(reads=frozenset({Resource.CATALOG}))
OTHER = Locks(writes=frozenset({Resource.PUBLICATION}))

Start = Callable[..., Lease]


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    with ExitStack() as stack:

        def make(job: str, locks: Locks = WRITES) -> Lease:
            lease = Lease(database, job, locks, {"seed": 1})
            stack.callback(lease.end, "done", {}, [], {}, None)
            return lease

        yield make


def terminate(database: Database, lease: Lease) -> None:
    """Break the lease's connection, as a lost network does."""
    assert lease._connection is not None
    pid = lease._connection.info.backend_pid
    with psycopg.connect(
        database.url.set(drivername="postgresql").render_as_string(), autocommit=True
    ) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


@pytest.mark.parametrize(
    ("first", "second", "excluded"),
    [
        (("a", WRITES), ("b", WRITES), True),
        (("a", WRITES), ("b", READS), True),
        (("a", READS), ("b", WRITES), True),
        (("a", READS), ("b", READS), False),
        (("a", READS), ("a", READS), True),
        (("a", WRITES), ("b", OTHER), False),
    ],
)
def test_who_excludes_whom(
    start: Start, first: tuple[str, Locks], second: tuple[str, Locks], excluded: bool
) -> None:
    start(*first)
    if not excluded:
        start(*second)
        return
    with pytest.raises(LockedError):
        start(*second)


def test_locks_are_free_as_soon_as_a_job_has_ended(database: Database) -> None:
    # The server notices a closed connection only a moment later, mostly: hence several times.
    held = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with database.connect_alone() as watch:
        for _ in range(20):
            Lease(database, "a", READS, {}).end("done", {}, [], {}, None)
            assert watch.execute(held).fetchone() == (0,)
            lease = Lease(database, "a", READS, {})
            with pytest.raises(LockedError):
                Lease(database, "a", OTHER, {})  # takes one lock before it fails
            assert watch.execute(held).fetchone() == (3,)
            lease.end("done", {}, [], {}, None)


def test_the_message_says_who_holds_it(start: Start) -> None:
    lease = start("import")
    with pytest.raises(LockedError) as caught:
        start("distill", READS)
    message = str(caught.value)
    for part in ("distill cannot start", f"import (pid {os.getpid()} on ", f"run {lease.run_id})"):
        assert part in message
    assert "catalog since 20" in message
    assert "\n" not in message


def test_the_row_from_start_to_end(database: Database) -> None:
    lease = Lease(database, "import", WRITES, {"seed": 1})
    with database.connect() as connection:
        running = job_run(connection, lease.run_id)
    lease.freeze({"model": "s"})
    lease.beat([{"name": "read", "seconds": 1.5}], {})
    with database.connect() as connection:
        beaten = job_run(connection, lease.run_id)
    lease.end(
        "failed", {"items": 3}, [{"name": "read"}, {"name": "write"}], {"gauges": []}, "no room"
    )
    with database.connect() as connection:
        ended = job_run(connection, lease.run_id)
        assert list_job_runs(connection, 5) == [ended]
        with pytest.raises(NotFoundError):
            job_run(connection, 99)
    assert (running.outcome, running.ended, running.parameters) == ("running", None, {"seed": 1})
    assert running.pid == os.getpid()
    assert beaten.parameters == {"seed": 1, "model": "s"}
    assert beaten.stages == [{"name": "read", "seconds": 1.5}]
    assert beaten.heartbeat > running.heartbeat
    assert (ended.outcome, ended.error, ended.counts) == ("failed", "no room", {"items": 3})
    assert ended.ended is not None
    Lease(database, "import", WRITES, {}).end("done", {}, [], {}, None)  # the locks are free


def test_run_numbers_grow(start: Start) -> None:
    numbers = [start(name, OTHER if n == 0 else READS).run_id for n, name in enumerate("abc")]
    assert numbers == sorted(set(numbers))


def test_a_killed_process_frees_its_locks_and_is_marked(
    database: Database, start: Start, tmp_path: Path
) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from pydantic import SecretStr
        from recjob.settings import Settings
        from recjob.store.database import open_database
        from recjob.store.ledger import Lease, Locks, Resource
        settings = Settings(home=Path(sys.argv[1]), database_url=SecretStr(sys.argv[2]))
        with open_database(settings) as database:
            Lease(database, "import", Locks(writes=frozenset({Resource.CATALOG})), {})
            os.kill(os.getpid(), signal.SIGKILL)
    """
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), url]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    with database.connect() as connection:
        dead = list_job_runs(connection, 1)[0]
        assert (dead.job, dead.outcome) == ("import", "running")
    lease = start("import")
    with database.connect() as connection:
        assert job_run(connection, dead.run_id).outcome == "killed"
        assert job_run(connection, lease.run_id).outcome == "running"


def test_living_runs_are_not_marked(database: Database, start: Start) -> None:
    first = start("a", READS)
    start("b", READS)
    with database.connect() as connection:
        assert job_run(connection, first.run_id).outcome == "running"


def test_a_lost_connection_is_made_again_and_the_locks_are_taken_again(
    database: Database, start: Start
) -> None:
    lease = start("import")
    terminate(database, lease)
    lease.beat([], {})
    with pytest.raises(LockedError):
        start("embed", READS)
    with database.begin() as connection:
        hold_lease(connection, lease.run_id)


@pytest.mark.parametrize("when", ["never", "before", "after"])
def test_what_is_given_back_is_free_also_after_a_lost_connection(
    database: Database, start: Start, when: str
) -> None:
    lease = start("distill", READS)
    with pytest.raises(LockedError):
        start("import", WRITES)
    if when == "before":
        terminate(database, lease)
    lease.give_back(Resource.CATALOG)
    if when == "after":
        terminate(database, lease)
    lease.beat([], {})  # connects again where it has to
    Lease(database, "import", WRITES, {}).end("done", {}, [], {}, None)
    lease.beat([], {})
    with database.begin() as connection:
        hold_lease(connection, lease.run_id)
    with pytest.raises(LockedError, match="its kind of job"):
        start("distill", READS)


def test_what_is_given_back_is_not_the_rest(start: Start) -> None:
    both = Locks(reads=frozenset({Resource.CATALOG, Resource.ENGINES}))
    start("gate", both).give_back(Resource.CATALOG)
    with pytest.raises(LockedError, match="engines"):
        start("compile", Locks(writes=frozenset({Resource.ENGINES})))


def test_a_later_run_takes_the_lease_away(database: Database, start: Start) -> None:
    old = start("import")
    terminate(database, old)
    new = start("distill", READS)  # whatever it is: it finds the old one dead
    old.check()  # nobody has asked yet
    with pytest.raises(TemporaryError, match=f"run {old.run_id} has lost its lease"):
        old.beat([], {})
    with pytest.raises(TemporaryError, match="lost its lease"):
        old.check()
    with database.begin() as connection:
        with pytest.raises(TemporaryError, match="lost its lease"):
            hold_lease(connection, old.run_id)
        hold_lease(connection, new.run_id)
    old.end("done", {}, [], {}, None)
    with database.connect() as connection:
        assert job_run(connection, old.run_id).outcome == "killed"


def test_a_held_lease_keeps_others_from_marking_the_run(database: Database, start: Start) -> None:
    """A transaction that publishes ends before a later run can take over."""
    old = start("import")
    with database.begin() as connection:
        hold_lease(connection, old.run_id)
        terminate(database, old)
        other = database.connect_alone()
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE job_run SET outcome = 'killed', ended = now()")
        other.close()
        connection.execute(text("UPDATE publication SET changed = now()"))
