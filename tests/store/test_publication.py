"""Publishing: a reader sees one whole run at every moment, and only runs that passed the checks."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import PADDING
from recjob.errors import NotFoundError, RefusedError, TemporaryError
from recjob.store import publication
from recjob.store.catalog_store import CatalogKeys, read_catalog, read_keys
from recjob.store.database import Database
from recjob.store.ledger import Lease, Locks, Resource
from recjob.store.publication import (
    PublishedRun,
    list_runs,
    publish,
    rollback,
    show_run,
    sweep_partitions,
)
from recjob.store.recommendations import recommendations_of
from recjob.store.run_lists import RunLists
from tests.store.folders import folder, shop, write

K = 5
LOCKS = Locks(writes=frozenset({Resource.PUBLICATION}))


@pytest.fixture
def keys(database: Database) -> CatalogKeys:
    """Of the little shop; user n likes the outfits n and n + 1, the last user none."""
    with database.begin() as connection:
        # Other keys than indices, so that mixing them up shows.
        write(connection, folder(users=["zzz"]))
        write(connection, shop())
        return read_keys(connection)


def lists(n_users: int = 7, first: int = 8) -> RunLists:
    """Everyone gets the outfits first, first + 1, ... with falling scores."""
    outfits = np.tile(np.arange(first, first + K, dtype=np.int32), (n_users, 1))
    scores = np.linspace(0.9, 0.1, K, dtype=np.float32) - np.arange(n_users)[:, None] / 100
    kinds = np.array([0] * 4 + [1] * (n_users - 6) + [2] * 2, np.int32)
    return RunLists(np.arange(n_users, dtype=np.int32), kinds, outfits, scores.astype(np.float32))


@contextmanager
def running(database: Database) -> Iterator[int]:
    lease = Lease(database, "nightly-recommend", LOCKS, {})
    try:
        yield lease.run_id
    finally:
        lease.end("done", {}, [], None)


def run(database: Database, keys: CatalogKeys, what: RunLists, keep_runs: int = 7) -> PublishedRun:
    with running(database) as run_id:
        return publish(database, run_id, keys, what, exclude_seen=True, keep_runs=keep_runs)


def partitions(database: Database) -> list[int]:
    query = text(
        "SELECT substring(relname FROM '[0-9]+$')::integer FROM pg_class "
        "WHERE relname ~ '^recommendation_run_[0-9]+$' ORDER BY 1"
    )
    with database.connect() as connection:
        return list(connection.scalars(query))


def visible(database: Database) -> list[tuple[str, int, str, float]]:
    query = text("SELECT user_id, rank, outfit_id, score FROM current_recommendation ORDER BY 1, 2")
    with database.connect() as connection:
        return [(u, r, o, round(s, 4)) for u, r, o, s in connection.execute(query)]


def test_what_is_published_is_what_readers_see(database: Database, keys: CatalogKeys) -> None:
    what = lists()
    published = run(database, keys, what)
    with database.connect() as connection:
        catalog = read_catalog(connection)
    assert visible(database) == [
        (
            catalog.user_ids[user],
            place + 1,
            catalog.outfit_ids[what.outfits[user, place]],
            round(float(what.scores[user, place]), 4),
        )
        for user in range(7)
        for place in range(K)
    ]
    assert published.current
    assert published.users == {"warm": 4, "cold": 1, "stranger": 2}
    assert published.recommendations == 7 * K


def test_lists_of_different_lengths_and_an_empty_one(database: Database, keys: CatalogKeys) -> None:
    what = lists()
    what.outfits[1, 3:] = PADDING
    what.outfits[2, :] = PADDING
    what.scores[2, :] = np.nan  # whatever: there is nothing to score
    run(database, keys, what)
    lengths = dict.fromkeys(("u00", "u01", "u02", "u03"), 0)
    for user, rank, _, _ in visible(database):
        if user in lengths:
            lengths[user] = max(lengths[user], rank)
    assert lengths == {"u00": 5, "u01": 3, "u02": 0, "u03": 5}
    with database.connect() as connection:
        assert recommendations_of(connection, "u02").outfits == ()


def test_a_users_list_with_items(database: Database, keys: CatalogKeys) -> None:
    published = run(database, keys, lists())
    with database.connect() as connection:
        found = recommendations_of(connection, "u04")
        assert (found.user_id, found.run_id, found.kind) == ("u04", published.run_id, "cold")
        assert [outfit.rank for outfit in found.outfits] == [1, 2, 3, 4, 5]
        first = found.outfits[0]
        assert first.outfit_id == "o08"
        assert [item.item_id for item in first.items] == ["i08", "i09"]
        assert first.items[0].image == "i08.jpg"
        assert first.score == pytest.approx(0.9 - 0.04)
        with pytest.raises(NotFoundError, match="no user 'nobody'"):
            recommendations_of(connection, "nobody")
        write(connection, folder(users=["late"]))
        with pytest.raises(NotFoundError, match=f"came after run {published.run_id}"):
            recommendations_of(connection, "late")


def test_nothing_published_yet(database: Database, keys: CatalogKeys) -> None:
    with database.connect() as connection:
        assert list_runs(connection) == []
        with pytest.raises(NotFoundError, match="nightly-recommend"):
            recommendations_of(connection, "u00")
    with pytest.raises(NotFoundError, match="nightly-recommend"):
        rollback(database)


def test_what_became_unavailable_disappears_at_once_and_ranks_stay_dense(
    database: Database, keys: CatalogKeys
) -> None:
    run(database, keys, lists())
    with database.begin() as connection:
        connection.execute(text("UPDATE outfit SET available = false WHERE outfit_id = 'o09'"))
        connection.execute(text("UPDATE item SET available = false WHERE item_id = 'i00'"))
    # i00 is in o11 (i11, i00) and o12 (i00, i02)
    assert [(r, o) for u, r, o, _ in visible(database) if u == "u00"] == [(1, "o08"), (2, "o10")]


def bad(change: Callable[[RunLists], None]) -> RunLists:
    what = lists()
    change(what)
    return what


def gap(what: RunLists) -> None:
    what.outfits[3, 1] = PADDING


def twice(what: RunLists) -> None:
    what.outfits[3, 4] = what.outfits[3, 0]


def rising(what: RunLists) -> None:
    what.scores[3, 4] = 1.0


def nan(what: RunLists) -> None:
    what.scores[3, 2] = np.nan


def two_lists(what: RunLists) -> None:
    what.users[3] = 4


def seen(what: RunLists) -> None:
    what.outfits[3, 0] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gap, "user number 3 has a gap"),
        (twice, "user number 3 has an outfit twice"),
        (rising, "user number 3 has scores that rise"),
        (nan, "user number 3 has a score that is no number"),
        (two_lists, "two lists for one user"),
        (seen, "user 'u03' has already liked"),
    ],
)
def test_bad_lists_are_refused_and_nothing_is_left(
    database: Database, keys: CatalogKeys, change: Callable[[RunLists], None], message: str
) -> None:
    run(database, keys, lists())
    before = visible(database), partitions(database)
    with pytest.raises(RefusedError, match=message):
        run(database, keys, bad(change))
    assert (visible(database), partitions(database)) == before


def test_scores_may_rise_where_lists_were_re_ranked(database: Database, keys: CatalogKeys) -> None:
    run(database, keys, dataclasses.replace(bad(rising), ordered=False))


def test_seen_outfits_pass_where_settings_allow_them(database: Database, keys: CatalogKeys) -> None:
    with running(database) as run_id:
        publish(database, run_id, keys, bad(seen), exclude_seen=False, keep_runs=7)


def test_a_missing_user_is_refused(database: Database, keys: CatalogKeys) -> None:
    with pytest.raises(RefusedError, match="user 'zzz' has no list"):
        run(database, keys, lists(n_users=6))


def test_an_outfit_that_does_not_exist_is_refused(database: Database, keys: CatalogKeys) -> None:
    wrong = keys.outfits.copy()
    wrong[10] = 999
    with pytest.raises(RefusedError, match="an outfit does not exist"):
        run(database, dataclasses.replace(keys, outfits=wrong), lists())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outfit SET available = false WHERE outfit_id = 'o10'",
        "UPDATE item SET available = false WHERE item_id = 'i11'",
        "UPDATE item SET image_sha256 = NULL, quarantine_reason = 'x' WHERE item_id = 'i11'",
    ],
)
def test_what_cannot_be_bought_is_refused(
    database: Database, keys: CatalogKeys, statement: str
) -> None:
    with database.begin() as connection:
        connection.execute(text(statement))
    with pytest.raises(RefusedError, match="outfit 'o10' is not available"):
        run(database, keys, lists())
    assert partitions(database) == []


def test_a_lost_lease_publishes_nothing(
    database: Database, keys: CatalogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(database, keys, lists())
    before = visible(database)
    attached = threading.Event()
    wait = publication._wait_for_readers

    def lose(database: Database) -> None:
        """Another job takes over between attaching and showing."""
        with database.begin() as connection:
            connection.execute(
                text("UPDATE job_run SET outcome = 'killed', ended = now() WHERE ended IS NULL")
            )
        attached.set()
        wait(database)

    monkeypatch.setattr(publication, "_wait_for_readers", lose)
    with pytest.raises(TemporaryError, match="lost its lease"), running(database) as run_id:
        publish(database, run_id, keys, lists(first=9), exclude_seen=True, keep_runs=7)
    assert attached.is_set()
    assert visible(database) == before
    assert partitions(database) == [first.run_id]


def test_retention_keeps_the_newest_and_never_the_current_or_its_predecessor(
    database: Database, keys: CatalogKeys
) -> None:
    runs = [run(database, keys, lists(), keep_runs=3).run_id for _ in range(5)]
    assert partitions(database) == runs[2:]
    rollback(database)
    rollback(database)
    with database.connect() as connection:
        assert [(r.run_id, r.current) for r in list_runs(connection)] == [
            (runs[4], False),
            (runs[3], False),
            (runs[2], True),
        ]
    assert publication.drop_old_runs(database, 2) == []
    assert partitions(database) == runs[2:]


def test_rollback_and_forth(database: Database, keys: CatalogKeys) -> None:
    first = run(database, keys, lists(first=8)).run_id
    old = visible(database)
    second = run(database, keys, lists(first=13)).run_id
    new = visible(database)
    assert old != new
    assert rollback(database).run_id == first
    assert visible(database) == old
    with pytest.raises(NotFoundError, match="oldest"):
        rollback(database)
    assert rollback(database, second).current
    assert visible(database) == new
    for unknown in (99, 0):
        with pytest.raises(NotFoundError, match="not kept"):
            rollback(database, unknown)
    with database.connect() as connection, pytest.raises(NotFoundError):
        show_run(connection, 99)


def test_the_published_run_cannot_be_dropped(database: Database, keys: CatalogKeys) -> None:
    published = run(database, keys, lists())
    assert not publication._drop(database, published.run_id)
    assert partitions(database) == [published.run_id]


def test_leftovers_of_killed_runs_are_swept(database: Database, keys: CatalogKeys) -> None:
    kept = run(database, keys, lists()).run_id
    with database.begin() as connection:
        for number in (101, 102):
            connection.execute(text(f"SELECT create_recommendation_partition({number})"))
            connection.execute(text(f"SELECT seal_recommendation_partition({number})"))
        connection.execute(text("SELECT attach_recommendation_partition(102)"))
    with running(database) as alive:
        with database.begin() as connection:
            connection.execute(text(f"SELECT create_recommendation_partition({alive})"))
        assert sweep_partitions(database) == [101, 102]
        assert partitions(database) == [kept, alive]
    assert sweep_partitions(database) == [alive]


def test_a_busy_reader_delays_a_drop_and_is_not_shut_out(
    database: Database, keys: CatalogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "DROP_ATTEMPTS", 2)
    monkeypatch.setattr(publication, "READERS_SECONDS", 0.1)
    first = run(database, keys, lists()).run_id
    with database.connect() as reader:
        reader.execute(text("SELECT count(*) FROM current_recommendation"))
        for _ in range(2):
            run(database, keys, lists(), keep_runs=2)
        assert first in partitions(database)
        with database.connect() as connection:
            assert first in [r.run_id for r in list_runs(connection)]
    assert publication.drop_old_runs(database, 2) == [first]
    assert first not in partitions(database)


def test_a_run_is_shown_after_the_statements_that_cannot_know_its_partition(
    database: Database, keys: CatalogKeys
) -> None:
    run(database, keys, lists(first=8))
    with database.connect() as reader:
        reader.execute(text("SELECT count(*) FROM current_recommendation"))
        thread = threading.Thread(target=run, args=(database, keys, lists(first=9)))
        thread.start()
        while len(partitions(database)) < 2:
            thread.join(0.01)
        thread.join(0.3)
        assert thread.is_alive()
        assert visible(database)[0][2] == "o08"
    thread.join()
    assert visible(database)[0][2] == "o09"


def test_readers_use_only_the_published_partition(database: Database, keys: CatalogKeys) -> None:
    for _ in range(3):
        run(database, keys, lists())
    with database.connect() as connection:
        plan = "\n".join(
            connection.scalars(
                text(
                    "EXPLAIN (ANALYZE, COSTS OFF) "
                    "SELECT * FROM current_recommendation WHERE user_id = 'u01'"
                )
            )
        )
    assert plan.count("never executed") + plan.count("Subplans Removed: 2") > 0


def test_a_reader_sees_one_whole_run_at_every_moment(database: Database, keys: CatalogKeys) -> None:
    """Readers in a loop while runs are published, rolled back and dropped."""
    run(database, keys, lists(first=8))
    query = text(
        "SELECT count(*), count(DISTINCT run), count(DISTINCT user_id), min(outfit_id) "
        "FROM current_recommendation"
    )
    stop = threading.Event()
    seen_lists: set[str] = set()
    wrong: list[tuple[int, ...]] = []
    reads = [0, 0, 0]

    def read(reader: int) -> None:
        with database.connect() as connection:
            while not stop.is_set():
                rows, runs, users, least = connection.execute(query).one()
                connection.rollback()
                seen_lists.add(least)
                reads[reader] += 1
                if (rows, runs, users) != (7 * K, 1, 7):
                    wrong.append((rows, runs, users))

    threads = [threading.Thread(target=read, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for first in (13, 9, 10, 8, 12):
            run(database, keys, lists(first=first), keep_runs=2)
        rollback(database)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(reads) > 5
    assert len(seen_lists) > 2
