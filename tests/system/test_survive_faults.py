"""Nights that lose the database, the disk or their locks, are stopped, or find too little."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import pytest

from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.embedded import SUPERUSER, EmbeddedServer
from tests.fixtures_database import scratch_folder
from tests.fixtures_shop import Shop, copy_shop
from tests.system.nights import SHARDS, NightServer, wait_until

pytestmark = pytest.mark.system

STOP_SECONDS: Final = 10
"""What a night may take to its end after SIGTERM."""
RECENT: Final = {"RECJOB_RULES__EXCLUDE_RECENT_NIGHTS": "1"}
"""Scoring asks the database for them."""
DISK: Final = "64m"


@pytest.fixture
def night_shop(changed_shop: Shop, postgres: EmbeddedServer, tmp_path: Path) -> Shop:
    """The shop before a night, with new pictures."""
    return copy_shop(changed_shop, postgres, tmp_path / "shop")


@pytest.fixture(scope="module")
def digest(
    changed_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """That of an undisturbed night."""
    shop = copy_shop(changed_shop, postgres, tmp_path_factory.mktemp("undisturbed") / "shop")
    assert nights.night(shop, RECENT).result()["continues"] is None
    return nights.digest(shop)


def published(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows("SELECT current_run, previous_runs FROM publication")


def finished_shards(shop: Shop) -> list[Path]:
    """Whole files of finished shards of users."""
    folder = shop.settings.home / "artifacts" / "work" / "nightly"
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


# --- The database -------------------------------------------------------------------------------


class OwnServer:
    """A server with a copy of the shop's database, to stop and start."""

    def __init__(self, shop: Shop, session: EmbeddedServer, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedServer(folder)
        with open_database(Settings(home=folder.parent)):
            pass  # the roles, which belong to a server
        self._server.start()
        name = "shop"
        url = self._server.url.set(database=name)
        with psycopg.connect(
            host=str(url.query["host"]), user=SUPERUSER, dbname=SUPERUSER, autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        dumped = subprocess.run(
            [
                str(session._programs / "pg_dump"),
                *("-h", str(session.url.query["host"]), "-U", SUPERUSER),
                shop.url.split("?")[0].rsplit("/")[-1],
            ],
            capture_output=True,
            check=True,
        )
        subprocess.run(
            [
                str(session._programs / "psql"),
                *("-q", "-v", "ON_ERROR_STOP=1", "-h", str(url.query["host"])),
                *("-U", SUPERUSER, "-d", name),
            ],
            input=dumped.stdout,
            capture_output=True,
            check=True,
        )
        self.shop = replace(shop, url=str(url))

    def stop(self, how: signal.Signals) -> None:
        """SIGINT: a fast stop, SIGQUIT: an immediate one, after which it has to recover."""
        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        wait_until(lambda: not psutil.pid_exists(pid))

    def start(self) -> None:
        """Start it again."""
        EmbeddedServer(self._folder).start()

    def close(self) -> None:
        """Stop it for good."""
        self._server.stop()


@pytest.fixture
def own_server(night_shop: Shop, postgres: EmbeddedServer) -> Iterator[OwnServer]:
    with scratch_folder() as home:
        server = OwnServer(night_shop, postgres, home / "postgres")
        try:
            yield server
        finally:
            server.start()
            server.stop(signal.SIGQUIT)


WAITS: Final = {
    "while it scores": (("before scoring a shard", 3), signal.SIGINT),
    "while it loads": (("before copy", 1), signal.SIGQUIT),
    "while it publishes": (("before flip", 1), signal.SIGINT),
}


@pytest.mark.parametrize("when", WAITS)
def test_a_night_waits_for_a_database_that_is_restarted(
    when: str, own_server: OwnServer, nights: NightServer, digest: str
) -> None:
    moment, how = WAITS[when]
    shop, server = own_server.shop, own_server
    patience = {"RECJOB_NIGHTLY__DATABASE_WAIT_SECONDS": "300"}
    night = nights.night(shop, RECENT | patience, moment)
    night.wait_for(*moment)
    server.stop(how)
    night.go_on()
    wait_until(lambda: "trying again" in night.err or night.poll() is not None)
    server.start()
    result = night.result()
    assert (result["run"], result["continued_shards"]) == (result["run_id"], 0)
    assert nights.digest(shop) == digest


def test_a_night_that_does_not_wait_is_continued(
    own_server: OwnServer, nights: NightServer, digest: str
) -> None:
    shop, server = own_server.shop, own_server
    impatience = {"RECJOB_NIGHTLY__DATABASE_WAIT_SECONDS": "0"}
    night = nights.night(shop, RECENT | impatience, ("before scoring a shard", 4))
    night.wait_for("before scoring a shard", 4)
    before = published(shop)
    server.stop(signal.SIGINT)
    night.go_on()
    assert "database " in night.message(5)
    server.start()
    assert published(shop) == before
    result = nights.night(shop, RECENT).result()
    assert (result["shards"], result["continued_shards"]) == (SHARDS, 3)
    assert nights.digest(shop) == digest


# --- The disk -----------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a folder on a disk of its own, with all that is in it."""
    # Nothing but a file system of its own is full as disks are, and only root may mount one.
    # `.ci/run` forbids skipping: there it is tested, or the run fails.
    if os.geteuid() != 0:
        pytest.skip("a full disk takes a small file system, which only root may mount")
    content = folder.with_name("content")
    folder.rename(content)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        shutil.copytree(content, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no room on the folder's disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass
    yield
    ballast.unlink()


@pytest.mark.parametrize(
    ("moment", "continued"),
    [
        (("item features begins", 1), 0),
        (("outfit vectors begins", 1), 0),
        (("save vectors begins", 1), 0),
        (("before scoring a shard", 3), 2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_full_disk(
    moment: tuple[str, int], continued: int, night_shop: Shop, nights: NightServer, digest: str
) -> None:
    shop, artifacts = night_shop, night_shop.settings.home / "artifacts"
    before = published(shop)
    with small_disk(artifacts):
        night = nights.night(shop, RECENT, moment)
        night.wait_for(*moment)
        with full(artifacts):
            night.go_on()
            message = night.message(5)
            assert str(shop.settings.home) in message
            assert "no space left" in message
            files = [path for path in artifacts.rglob("*") if path.is_file()]
        assert [path.name for path in files if path.parent.name == ".unfinished"] == ["lock"]
        assert [path for path in files if path.name.startswith(".")] == []
        assert len(finished_shards(shop)) == continued
        registered = shop.rows("SELECT file FROM embedding_set")
        assert {path.name for path in artifacts.rglob("embeddings-*")} == {registered[0][0]}
        assert published(shop) == before
        assert nights.night(shop, RECENT).result()["continued_shards"] == continued
        assert nights.digest(shop) == digest


# --- Stopping -----------------------------------------------------------------------------------


def test_sigterm_waits_for_the_shard_at_hand(
    night_shop: Shop, nights: NightServer, digest: str
) -> None:
    moment = ("before scoring a shard", 2)
    night = nights.night(night_shop, RECENT, moment)
    night.wait_for(*moment)
    night.signal(signal.SIGTERM)
    night.go_on()
    assert night.ended(STOP_SECONDS) == 130
    assert (night.out, night.err) == ("", "interrupted\n")
    assert night.moments()[-1][1] == "after failure is recorded"
    assert len(finished_shards(night_shop)) == night.count("before scoring a shard") == 2
    result = nights.night(night_shop, RECENT).result()
    assert (result["continues"], result["continued_shards"]) == (result["run_id"] - 1, 2)
    assert nights.digest(night_shop) == digest


def test_sigterm_does_not_wait_for_ever(night_shop: Shop, nights: NightServer, digest: str) -> None:
    moment = ("before scoring a shard", 2)
    night = nights.night(night_shop, RECENT | {"RECJOB_NIGHTLY__STOP_SECONDS": "0.5"}, moment)
    night.wait_for(*moment)
    night.signal(signal.SIGTERM)  # and the shard never ends
    assert night.ended(STOP_SECONDS) == 130
    assert (night.out, night.err) == ("", "interrupted\n")
    assert len(finished_shards(night_shop)) == 1
    assert nights.night(night_shop, RECENT).result()["continued_shards"] == 1
    assert nights.digest(night_shop) == digest


def test_sigterm_between_shards_of_items(
    night_shop: Shop, nights: NightServer, digest: str
) -> None:
    night = nights.night(night_shop, RECENT, ("before work file is synced", 1))
    night.wait_for("before work file is synced")
    night.signal(signal.SIGTERM)
    night.go_on()
    assert night.ended(STOP_SECONDS) == 130
    assert night.count("after work file is synced") == 1
    work = night_shop.settings.home / "artifacts" / "work" / "embed"
    assert len([path for path in work.rglob("items-*") if path.is_file()]) == 1
    again = nights.night(night_shop, RECENT)
    again.result()
    items = [name for _, name in again.moments() if name.startswith("after items ")]
    assert len(items) == 1  # of two
    assert nights.digest(night_shop) == digest


# --- Locks --------------------------------------------------------------------------------------


def test_of_many_starts_at_once_one_runs(
    night_shop: Shop, nights: NightServer, digest: str
) -> None:
    moment = ("plan begins", 1)
    started = [nights.night(night_shop, RECENT, moment) for _ in range(3)]
    wait_until(lambda: sum(night.poll() is not None for night in started) == len(started) - 1)
    [running] = [night for night in started if night.poll() is None]
    for night in started:
        if night is not running:
            assert "nightly-recommend cannot start: " in night.message(3)
    late = nights.night(night_shop, RECENT).message(3)
    assert f"nightly-recommend (pid {running.pid} on " in late
    running.wait_for(*moment)
    running.go_on()
    assert running.result()["continues"] is None
    assert nights.digest(night_shop) == digest


def test_a_killed_night_holds_no_lock(night_shop: Shop, nights: NightServer, digest: str) -> None:
    for moment in ("after copy", "before flip"):  # in the middle of a transaction
        night = nights.night(night_shop, RECENT, (moment, 1))
        night.wait_for(moment)
        night.signal(signal.SIGKILL)
    nights.night(night_shop, RECENT).result()
    assert nights.digest(night_shop) == digest


@pytest.mark.parametrize(
    "moment",
    [
        "before finished file is shared",
        "before vectors are registered",
        "before scoring a shard",
        "before load is committed",
        "after copy",
        "before attach",
        "before flip is committed",
        "before flip",
    ],
)
def test_a_night_that_comes_back_too_late(
    moment: str, night_shop: Shop, nights: NightServer, digest: str
) -> None:
    """Its process stands still, its connections break, and another night runs."""
    shop = night_shop
    late = nights.night(shop, RECENT, (moment, 1))
    late.wait_for(moment)
    late.signal(signal.SIGSTOP)
    shop.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'recjob' "
        "AND datname = current_database()"
    )
    second = nights.night(shop, RECENT).result()
    assert second["run"] == second["run_id"]
    shown, lists = published(shop), shop.lists()
    late.signal(signal.SIGCONT)
    late.go_on()
    assert "has lost its lease" in late.message(5)
    assert (published(shop), shop.lists()) == (shown, lists)
    assert nights.digest(shop) == digest
    assert shop.rows("SELECT run_id FROM recommendation_run WHERE run_id > %s", shown[0][0]) == []
    # Nothing that the late one did is in the way of the following night.
    following = nights.night(shop, RECENT).result()
    assert (following["run"], following["new_items"]) == (following["run_id"], 0)


# --- Limits -------------------------------------------------------------------------------------

LIMITS: Final[dict[str, tuple[str, dict[str, str], str]]] = {
    "fewer users": (
        "DELETE FROM {table} WHERE user_key IN "
        "(SELECT user_key FROM app_user WHERE user_id > 'user-008')",
        {"RECJOB_LIMITS__MAX_USER_LOSS": "0.05"},
        "limits.max_user_loss = 0.05",
    ),
    "lower coverage": ("", {"RECJOB_NIGHTLY__K": "2"}, "limits.max_coverage_loss = 0.5"),
    "other scores": (
        # As if the last run had found nothing but cosines of nearly -1.
        "UPDATE recommendation_run SET statistics = jsonb_set(statistics, '{score_histogram,0}', "
        "'100000')",
        {},
        "limits.max_score_shift = 0.25",
    ),
}
"""What happens to the shop, the night's settings, and the limit that tells."""


@pytest.mark.parametrize("kind", LIMITS)
def test_a_run_beyond_a_limit_is_held(kind: str, night_shop: Shop, nights: NightServer) -> None:
    shop, (change, variables, limit) = night_shop, LIMITS[kind]
    if "{table}" in change:
        for table in ("interaction", "user_embedding", "app_user"):
            shop.rows(change.format(table=table))
    elif change:
        shop.rows(change)
    before = published(shop)
    night = nights.night(shop, variables)
    message = night.message(4)
    assert limit in message
    [(held,)] = shop.rows("SELECT max(run_id) FROM job_run WHERE job = 'nightly-recommend'")
    assert f"runs publish {held}" in message
    assert published(shop) == before
    assert finished_shards(shop) == []
    runs = {run["run"]: run for run in listed(shop, nights)}
    assert (runs[held]["shown"], limit in runs[held]["held"]) == (False, True)
    assert [run["run"] for run in runs.values() if run["shown"]] == [before[0][0]]
    # Somebody looked at it, and finds it right.
    assert nights.start(shop, "runs", "publish", str(held), "--json").ended() == 0
    runs = {run["run"]: run for run in listed(shop, nights)}
    assert (runs[held]["shown"], runs[held]["held"]) == (True, None)
    assert published(shop) == [(held, [before[0][0]])]
    # And now nights are compared with it.
    assert nights.night(shop, variables).result()["continues"] is None


def listed(shop: Shop, nights: NightServer) -> list[dict[str, Any]]:
    """`runs list`."""
    rows = nights.start(shop, "runs", "list", "--json").result()["runs"]
    assert isinstance(rows, list)
    return rows
