"""Benchmark of writing a run: our load beside a bare COPY BINARY of the very same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, text

from recjob.bench.machine import Machine, this_machine
from recjob.bench.scratch import scratch_home
from recjob.settings import Settings
from recjob.store.bulk import copy_rows_in
from recjob.store.catalog_store import CatalogKeys, read_keys
from recjob.store.database import Database, open_database
from recjob.store.ledger import Lease, Locks, Resource, hold_lease
from recjob.store.publication import keep_run, show_run
from recjob.store.run_lists import (
    COLUMNS,
    RunLists,
    call_partition_function,
    check_partition,
    copy_lists,
    encode_lists,
    partition_name,
)

SHARD_USERS: Final = 8192
"""As the night's default, nightly.shard_users."""
POSITIVES: Final = 5
"""Likings per user, of outfits that no list holds, so that the check for seen ones has work."""
ITEMS: Final = 10_000
ITEMS_PER_OUTFIT: Final = 3


class LoadStep(BaseModel):
    """A step of writing one run, after the COPY."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: float


class LoadBenchmark(BaseModel):
    """What writing a run cost; seconds of loads are the least of all repeats."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    users: int
    places: int
    """Outfits in each list."""
    bytes: int
    """That COPY sends."""
    repeats: int
    ours_seconds: float
    """Checks of the lists, encoding and COPY."""
    bare_seconds: float
    """COPY of the bytes, ready in memory, into the same table in the same way."""
    ratio: float
    """Our speed as a share of the bare COPY's."""
    users_per_second: float
    recommendations_per_second: float
    steps: tuple[LoadStep, ...]
    """What else a run goes through before readers see it, measured once."""


def bench_load(seed: int, users: int, places: int, outfits: int, repeats: int) -> LoadBenchmark:
    """Measure both loads in turn, on an embedded Postgres that is made for it and removed."""
    with scratch_home(Settings()) as (_, settings), open_database(settings) as database:
        keys = _make_shop(database, users, places, outfits)
        shards = list(_shards(np.random.default_rng(seed), users, places, outfits))
        lease = Lease(database, "nightly-recommend", Locks(frozenset({Resource.PUBLICATION})), {})
        encoded = [c for shard in shards for c in encode_lists(lease.run_id, keys, shard)]

        def ours(connection: Connection) -> None:
            copy_lists(connection, lease.run_id, keys, iter(shards))

        def bare(connection: Connection) -> None:
            table = partition_name(lease.run_id)
            copy_rows_in(connection, table, COLUMNS, encoded, freeze=True)

        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for repeat in range(repeats):
            # In turn, and in turn who is first: what comes second may find a warmer machine.
            for load in (ours, bare) if repeat % 2 == 0 else (bare, ours):
                seconds[load.__name__].append(_time(database, lease.run_id, load))
        steps = tuple(_steps(database, lease.run_id, keys, shards, places))
        lease.end("done", {}, [], {}, None)
    ours_seconds, bare_seconds = min(seconds["ours"]), min(seconds["bare"])
    return LoadBenchmark(
        machine=this_machine(),
        users=users,
        places=places,
        bytes=sum(chunk.nbytes for chunk in encoded),
        repeats=repeats,
        ours_seconds=ours_seconds,
        bare_seconds=bare_seconds,
        ratio=bare_seconds / ours_seconds,
        users_per_second=users / ours_seconds,
        recommendations_per_second=users * places / ours_seconds,
        steps=steps,
    )


def _time(database: Database, run_id: int, load: Callable[[Connection], None]) -> float:
    """Seconds of a load into a new partition, which is then rolled back."""
    with database.connect() as connection:
        call_partition_function(connection, "create", run_id)
        start = time.perf_counter()
        load(connection)
        return time.perf_counter() - start


def _steps(
    database: Database, run_id: int, keys: CatalogKeys, shards: list[RunLists], places: int
) -> Iterator[LoadStep]:
    """Write the run as `load_run`, `keep_run` and `show_run` do, each part by itself."""
    seconds: list[LoadStep] = []

    @contextmanager
    def step(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds.append(LoadStep(name=name, seconds=time.perf_counter() - start))

    with step("transaction of the load, all of it"), database.begin() as connection:
        call_partition_function(connection, "create", run_id)
        with step("check, encode, COPY"):
            loaded = copy_lists(connection, run_id, keys, shards)
        with step("primary key, CHECK, ANALYZE"):
            call_partition_function(connection, "seal", run_id)
        with step("checks in the database"):
            check_partition(connection, run_id, loaded, exclude_seen=True)
        hold_lease(connection, run_id)
    with step("attach"):
        keep_run(database, run_id, shown=places, statistics={})
    with step("flip"):
        show_run(database, run_id)
    yield from seconds


def _make_shop(database: Database, users: int, places: int, outfits: int) -> CatalogKeys:
    """A catalog in the database, drawn by the database; lists hold its first `outfits`."""
    sizes = {
        "users": users,
        "outfits": outfits,
        "liked": POSITIVES * places,
        "items": ITEMS,
        "parts": ITEMS_PER_OUTFIT,
        "positives": POSITIVES,
    }
    with database.begin() as connection:
        for statement in (
            "INSERT INTO item (item_id, category, image, image_sha256) "
            "SELECT 'item-' || n, 'category-' || n % 5, 'picture', 'hash' "
            "FROM generate_series(1, :items) AS n",
            "INSERT INTO outfit (outfit_id) SELECT 'outfit-' || lpad(n::text, 9, '0') "
            "FROM generate_series(1, :outfits + :liked) AS n",
            "INSERT INTO outfit_item (outfit_key, item_key, place) "
            "SELECT n, 1 + (n * 7 + part * 13) % :items, part "
            "FROM generate_series(1, :outfits + :liked) AS n, "
            "generate_series(0, :parts - 1) AS part",
            "INSERT INTO app_user (user_id) SELECT 'user-' || lpad(n::text, 9, '0') "
            "FROM generate_series(1, :users) AS n",
            "INSERT INTO interaction (user_key, outfit_key) "
            "SELECT n, 1 + :outfits + (n * 3 + liked) % :liked "
            "FROM generate_series(1, :users) AS n, generate_series(1, :positives) AS liked",
            "SELECT analyze_catalog()",
        ):
            connection.execute(text(statement), sizes)
        return read_keys(connection)


def _shards(
    random: np.random.Generator, users: int, places: int, outfits: int
) -> Iterator[RunLists]:
    """Full lists of different outfits, in the night's shards."""
    widest = outfits // places
    for start in range(0, users, SHARD_USERS):
        rows = np.arange(start, min(start + SHARD_USERS, users), dtype=np.int32)
        first = random.integers(0, outfits, (len(rows), 1))
        step = random.integers(1, widest + 1, (len(rows), 1))
        scores: NDArray[np.float32] = random.random((len(rows), places), dtype=np.float32)
        yield RunLists(
            users=rows,
            kinds=np.zeros(len(rows), np.int32),
            outfits=((first + step * np.arange(places)) % outfits).astype(np.int32),
            scores=np.ascontiguousarray(np.sort(scores, axis=1)[:, ::-1]),
        )
