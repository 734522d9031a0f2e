"""Publishing: a reader sees one whole run at every moment, and only runs that passed the checks."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import PADDING
from recjob.errors import NotFoundError, RefusedError, TemporaryError
from recjob.store import publication, readers
from recjob.store.catalog_store import CatalogKeys, read_catalog, read_keys
from recjob.store.database import Database, administrator
from recjob.store.ledger import Lease, Locks, Resource
from recjob.store.publication import (
    drop_old_runs,
    keep_run,
    load_run,
    publication_row,
    publish_kept,
    published_statistics,
    recent_outfits,
    rollback,
    runs_shown_before,
    show_run,
    sweep_partitions,
)
from recjob.store.recommendations import recommendations_of
from recjob.store.run_lists import VISITOR, RunLists
from recjob.store.run_queries import KeptRun, kept_run, list_runs
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
        lease.end("done", {}, [], {}, None)


def load(database: Database, run_id: int, keys: CatalogKeys, *shards: RunLists) -> int:
    return load_run(database, run_id, keys, shards, exclude_seen=True, shown=K)


def run(
    database: Database,
    keys: CatalogKeys,
    *shards: RunLists,
    keep_runs: int = 7,
    shown: int = K,
    held: str | None = None,
    statistics: Mapping[str, Any] | None = None,
) -> KeptRun:
    """As the nightly job does it."""
    with running(database) as run_id:
        load(database, run_id, keys, *shards)
        keep_run(database, run_id, shown=shown, statistics=statistics or {}, held=held)
        if held is None:
            show_run(database, run_id)
        drop_old_runs(database, keep_runs)
    with database.connect() as connection:
        return kept_run(connection, run_id)


def visitors(first: int) -> RunLists:
    """The list for visitors: first, first + 1, ..., scores in no order."""
    return RunLists(
        np.array([VISITOR], np.int32),
        np.array([2], np.int32),
        np.arange(first, first + K, dtype=np.int32)[None],
        np.array([[0.5, 1, 0.25, 0.75, 0]], np.float32),
        ordered=False,
    )


def part(what: RunLists, rows: slice) -> RunLists:
    return dataclasses.replace(
        what,
        users=what.users[rows],
        kinds=what.kinds[rows],
        outfits=what.outfits[rows],
        scores=what.scores[rows],
    )


def partitions(database: Database) -> list[int]:
    query = text(
        "SELECT substring(relname FROM '[0-9]+$')::integer FROM pg_class "
        "WHERE relname ~ '^recommendation_run_[0-9]+$' ORDER BY 1"
    )
    with database.connect() as connection:
        return list(connection.scalars(query))


def visible(database: Database) -> list[tuple[str, int, str, float]]:
    query = text(
        "SELECT user_id, rank, outfit_id, score FROM current_recommendation "
        "WHERE user_id IS NOT NULL ORDER BY 1, 2"
    )
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
    assert published.places == 7 * K
    assert published.held is None
    assert published.shown == K
    assert not published.visitors


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
        assert load_run(database, run_id, keys, [bad(seen)], exclude_seen=False, shown=K) == 7


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


@pytest.mark.parametrize("before", ["load", "keep", "show"])
def test_a_lost_lease_publishes_nothing(database: Database, keys: CatalogKeys, before: str) -> None:
    """Another job takes over at any point; what this one left is swept by the next job."""
    first = run(database, keys, lists())
    seen = visible(database)
    steps: list[tuple[str, Callable[[int], object]]] = [
        ("load", lambda run_id: load(database, run_id, keys, lists(first=9))),
        ("keep", lambda run_id: keep_run(database, run_id, shown=K, statistics={})),
        ("show", lambda run_id: show_run(database, run_id)),
    ]

    def until_lost(run_id: int) -> None:
        for name, step in steps:
            if name == before:
                with database.begin() as connection:
                    connection.execute(
                        text(
                            "UPDATE job_run SET outcome = 'killed', ended = now() "
                            "WHERE ended IS NULL"
                        )
                    )
            step(run_id)

    with pytest.raises(TemporaryError, match="lost its lease"), running(database) as run_id:
        until_lost(run_id)
    assert visible(database) == seen
    assert sweep_partitions(database) == ([] if before == "load" else [run_id])
    assert partitions(database) == [first.run_id]
    assert visible(database) == seen


def test_shards_of_one_run_with_one_shard_in_memory(database: Database, keys: CatalogKeys) -> None:
    what = lists()
    what.outfits[1, 3:] = PADDING
    alive: list[weakref.ref[RunLists]] = []
    most = 0

    def shards() -> Iterator[RunLists]:
        nonlocal most
        for row in range(7):
            shard = part(what, slice(row, row + 1))
            alive.append(weakref.ref(shard))
            most = max(most, sum(one() is not None for one in alive))
            yield shard
            del shard

    with running(database) as run_id:
        assert load_run(database, run_id, keys, shards(), exclude_seen=True, shown=K) == 7
        keep_run(database, run_id, shown=K, statistics={})
        show_run(database, run_id)
    in_shards = visible(database)
    run(database, keys, what)
    assert visible(database) == in_shards
    assert most <= 4  # the new one, the one being encoded, the one being sent


def test_a_user_in_two_shards_is_refused(database: Database, keys: CatalogKeys) -> None:
    with running(database) as run_id, pytest.raises(RefusedError, match="two lists for one user"):
        load(database, run_id, keys, lists(), part(lists(), slice(3, 4)))
    assert partitions(database) == []


def test_shards_that_cannot_be_read_leave_nothing(database: Database, keys: CatalogKeys) -> None:
    def shards() -> Iterator[RunLists]:
        yield part(lists(), slice(0, 3))
        raise OSError(5, "the disk is broken")

    with running(database) as run_id:
        with pytest.raises(OSError, match="the disk is broken"):
            load_run(database, run_id, keys, shards(), exclude_seen=True, shown=K)
        assert partitions(database) == []
        # The same process tries again, as after a lost connection.
        for _ in range(2):
            assert load(database, run_id, keys, lists()) == 7
        for _ in range(2):
            keep_run(database, run_id, shown=K, statistics={})
        assert load(database, run_id, keys, lists(first=9)) == 7
        keep_run(database, run_id, shown=K, statistics={})
        for _ in range(2):
            show_run(database, run_id)
    assert partitions(database) == [run_id]
    assert visible(database)[0][2] == "o09"


def test_lists_narrower_than_what_is_shown(database: Database, keys: CatalogKeys) -> None:
    with running(database) as run_id, pytest.raises(ValueError, match="5 places, of which 6 show"):
        load_run(database, run_id, keys, [lists()], exclude_seen=True, shown=6)


def test_spare_places_move_up_when_an_outfit_sells_out(
    database: Database, keys: CatalogKeys
) -> None:
    run(database, keys, lists(first=8), shown=3)

    def list_of(user: str) -> list[tuple[int, str]]:
        return [(rank, outfit) for name, rank, outfit, _ in visible(database) if name == user]

    assert list_of("u00") == [(1, "o08"), (2, "o09"), (3, "o10")]
    with database.begin() as connection:
        connection.execute(text("UPDATE item SET available = false WHERE item_id = 'i09'"))
    # i09 is in o08 (i08, i09) and o09 (i09, i10)
    assert list_of("u00") == [(1, "o10"), (2, "o11"), (3, "o12")]
    with database.begin() as connection:
        connection.execute(text("UPDATE outfit SET available = false WHERE outfit_id = 'o11'"))
    assert list_of("u00") == [(1, "o10"), (2, "o12")]
    with database.begin() as connection:
        connection.execute(text("UPDATE item SET available = true"))
    assert list_of("u00") == [(1, "o08"), (2, "o09"), (3, "o10")]


def test_visitors_have_a_list_and_are_no_user(database: Database, keys: CatalogKeys) -> None:
    published = run(database, keys, lists(), visitors(11))
    assert published.visitors
    assert published.users == {"warm": 4, "cold": 1, "stranger": 2}
    assert published.places == 7 * K
    query = text(
        "SELECT rank, outfit_id, score, run FROM current_recommendation "
        "WHERE user_id IS NULL ORDER BY rank"
    )
    with database.connect() as connection:
        assert connection.execute(query).all() == [
            (1, "o11", 0.5, published.run_id),
            (2, "o12", 1.0, published.run_id),
            (3, "o13", 0.25, published.run_id),
            (4, "o14", 0.75, published.run_id),
            (5, "o15", 0.0, published.run_id),
        ]
    assert {user for user, *_ in visible(database)} == {f"u{n:02}" for n in range(6)} | {"zzz"}


def test_a_held_run_is_kept_and_shown_only_by_hand(database: Database, keys: CatalogKeys) -> None:
    first = run(database, keys, lists(first=8), statistics={"lists": 7})
    before = visible(database)
    held = run(database, keys, lists(first=9), held="too few users", statistics={"lists": 6})
    assert (held.current, held.held) == (False, "too few users")
    assert visible(database) == before
    assert sweep_partitions(database) == []
    with database.connect() as connection:
        assert published_statistics(connection) == (first.run_id, {"lists": 7})
        assert [one.run_id for one in list_runs(connection)] == [held.run_id, first.run_id]
        assert runs_shown_before(connection, 5) == [first.run_id]
    with pytest.raises(NotFoundError, match=r"never seen run .*`python cli\.py runs publish"):
        rollback(database, held.run_id)
    publish_kept(database, held.run_id)
    assert visible(database)[0][2] == "o09"
    with database.connect() as connection:
        now = kept_run(connection, held.run_id)
        assert (now.current, now.held) == (True, None)
        assert now.statistics["lists"] == 6
        assert now.statistics["forced"]["held"] == "too few users"
        assert now.statistics["forced"].keys() == {"held", "by", "at"}
        assert runs_shown_before(connection, 5) == [held.run_id, first.run_id]
        assert runs_shown_before(connection, 1) == [held.run_id]
    publish_kept(database, first.run_id)
    assert visible(database) == before
    with database.connect() as connection:
        assert runs_shown_before(connection, 5) == [first.run_id, held.run_id]
        assert kept_run(connection, first.run_id).statistics == {"lists": 7}  # it was not forced
    with pytest.raises(NotFoundError, match="run 99 is not kept"):
        publish_kept(database, 99)


def test_what_users_were_shown_lately(database: Database, keys: CatalogKeys) -> None:
    with database.connect() as connection:
        assert runs_shown_before(connection, 3) == []
        assert published_statistics(connection) is None
    first = run(database, keys, lists(first=8), visitors(11), shown=2).run_id
    second = run(database, keys, lists(first=13), shown=3).run_id
    run(database, keys, lists(first=10), held="why not")
    wanted = keys.users[[1, 4]]
    with database.connect() as connection:
        runs = runs_shown_before(connection, 3)
        assert runs == [second, first]
        users, outfits = recent_outfits(connection, runs, wanted)
        none = recent_outfits(connection, [], wanted)
        nobody = recent_outfits(connection, runs, wanted[:0])
    assert users.dtype == outfits.dtype == np.int32
    assert sorted(zip(users.tolist(), outfits.tolist(), strict=True)) == sorted(
        (int(user), int(keys.outfits[outfit])) for user in wanted for outfit in (8, 9, 13, 14, 15)
    )
    assert [len(array) for array in (*none, *nobody)] == [0] * 4


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
    assert drop_old_runs(database, 2) == []
    assert partitions(database) == runs[2:]


def test_retention_counts_held_runs_and_spares_what_readers_saw_before(
    database: Database, keys: CatalogKeys
) -> None:
    first, second = (run(database, keys, lists()).run_id for _ in range(2))
    held = [run(database, keys, lists(), held="no").run_id for _ in range(3)]
    assert drop_old_runs(database, 2) == [held[0]]
    assert partitions(database) == [first, second, *held[1:]]
    publish_kept(database, held[1])
    # Back to the first, and still the run that readers saw before it is not dropped.
    rollback(database, first)
    with database.connect() as connection:
        assert publication_row(connection) == (first, [held[1], second])
    assert drop_old_runs(database, 1) == [second]
    assert partitions(database) == [first, *held[1:]]
    with database.connect() as connection:
        assert publication_row(connection) == (first, [held[1]])


def test_rollback_and_forth(database: Database, keys: CatalogKeys) -> None:
    first = run(database, keys, lists(first=8)).run_id
    old = visible(database)
    second = run(database, keys, lists(first=13)).run_id
    new = visible(database)
    assert old != new
    assert rollback(database) == first
    assert visible(database) == old
    with pytest.raises(NotFoundError, match="oldest"):
        rollback(database)
    assert rollback(database, second) == second
    assert visible(database) == new
    for unknown in (99, 0):
        with pytest.raises(NotFoundError, match="not kept"):
            rollback(database, unknown)
    with database.connect() as connection, pytest.raises(NotFoundError):
        kept_run(connection, 99)


def test_the_published_run_cannot_be_dropped(database: Database, keys: CatalogKeys) -> None:
    published = run(database, keys, lists())
    assert not publication.drop_run(database, published.run_id)
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


def test_a_run_killed_between_keeping_and_showing_is_swept(
    database: Database, keys: CatalogKeys
) -> None:
    kept = run(database, keys, lists()).run_id
    held = run(database, keys, lists(), held="no").run_id
    with running(database) as alive:
        load(database, alive, keys, lists())
        keep_run(database, alive, shown=K, statistics={})
        assert sweep_partitions(database) == []
    with running(database) as gone:
        load(database, gone, keys, lists())
        keep_run(database, gone, shown=K, statistics={}, held="no")
    with administrator(database.url) as engine, engine.begin() as connection:
        connection.execute(text(f"DROP TABLE recommendation_run_{gone}"))
    assert sweep_partitions(database) == [alive, gone]
    assert partitions(database) == [kept, held]
    with database.connect() as connection:
        assert [one.run_id for one in list_runs(connection)] == [held, kept]


def test_a_busy_reader_delays_a_drop_and_is_not_shut_out(
    database: Database, keys: CatalogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "DROP_ATTEMPTS", 2)
    monkeypatch.setattr(readers, "READERS_SECONDS", 0.1)
    first = run(database, keys, lists()).run_id
    with database.connect() as reader:
        reader.execute(text("SELECT count(*) FROM current_recommendation"))
        for _ in range(2):
            run(database, keys, lists(), keep_runs=2)
        assert first in partitions(database)
        with database.connect() as connection:
            assert first in [r.run_id for r in list_runs(connection)]
    assert drop_old_runs(database, 2) == [first]
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


def test_a_reader_stuck_between_planning_and_reading_is_waited_for(
    database: Database, keys: CatalogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan lacks the new partition: shown the new run, it would see nothing at all."""
    monkeypatch.setattr(readers, "READERS_SECONDS", 0.2)
    run(database, keys, lists(first=8))
    found: list[int] = []
    query = text("SELECT count(*) FROM current_recommendation JOIN job_run ON job_run.run_id = run")

    def read() -> None:
        with database.connect() as connection:
            found.append(connection.execute(query).scalar_one())

    def publish_next(run_id: int) -> None:
        keep_run(database, run_id, shown=K, statistics={})
        show_run(database, run_id)

    with running(database) as run_id:
        load(database, run_id, keys, lists(first=9))
        with administrator(database.url) as engine, engine.begin() as connection:
            connection.execute(text("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
            reader = threading.Thread(target=read)
            reader.start()
            waiting = text(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            )
            while not connection.execute(waiting).scalar_one():
                reader.join(0.01)
            publisher = threading.Thread(target=publish_next, args=(run_id,))
            publisher.start()
            publisher.join(1.0)  # five times as long as it waits for readers who can go on
            assert publisher.is_alive()
        reader.join()
        publisher.join()
    assert found == [7 * K]
    assert visible(database)[0][2] == "o09"

    monkeypatch.setattr(readers, "STUCK_READERS_SECONDS", 0.3)
    with administrator(database.url) as engine, engine.begin() as connection:
        connection.execute(text("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
        reader = threading.Thread(target=read)
        reader.start()
        while not connection.execute(waiting).scalar_one():
            reader.join(0.01)
        with pytest.raises(TemporaryError, match="a lock that somebody holds on another table"):
            readers.wait_for_readers(database)
    reader.join()


def test_one_users_list_is_looked_up_by_index(database: Database, keys: CatalogKeys) -> None:
    """With a shop as large as makes a scan dear, neither lists nor items are scanned."""
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO app_user (user_id) SELECT 'x' || n FROM generate_series(1, 5000) AS n"
            )
        )
        connection.execute(
            text(
                "INSERT INTO item (item_id, category, image, image_sha256) "
                "SELECT 'x' || n, 'top', 'x', 'x' FROM generate_series(1, 5000) AS n"
            )
        )
        connection.execute(text("SELECT analyze_catalog()"))
        many = read_keys(connection)
    n = len(many.users)
    what = lists(first=8, n_users=7)
    everyone = RunLists(
        np.arange(n, dtype=np.int32),
        np.zeros(n, np.int32),
        np.tile(what.outfits[0], (n, 1)),
        np.tile(what.scores[0], (n, 1)),
    )
    run(database, many, everyone, visitors(11))
    for condition in ("user_id = 'u01'", "user_id IS NULL"):
        explain = text(f"EXPLAIN SELECT * FROM current_recommendation WHERE {condition}")
        with database.connect() as connection:
            plan = "\n".join(connection.scalars(explain))
        for table in ("recommendation_run_", "app_user", "item"):
            assert f"Seq Scan on {table}" not in plan, plan


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
    run(database, keys, lists(first=8), visitors(8))
    query = text(
        "SELECT count(*) FILTER (WHERE user_id IS NOT NULL), count(DISTINCT run), "
        "count(DISTINCT user_id), min(outfit_id) "
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
            run(database, keys, lists(first=first), visitors(first), keep_runs=2)
        rollback(database)
        publish_kept(database, run(database, keys, lists(), visitors(9), held="no").run_id)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(reads) > 5
    assert len(seen_lists) > 2
