"""The digest says whether two runs recommend the same, and a comparison what differs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sqlalchemy import text

from recjob.errors import NotFoundError
from recjob.store.catalog_store import CatalogKeys, read_keys
from recjob.store.database import Database, administrator
from recjob.store.publication import rollback
from recjob.store.run_comparison import RunShape, compare_runs
from recjob.store.run_lists import VISITOR
from recjob.store.run_queries import kept_run, run_digest
from tests.store.folders import folder, shop, write
from tests.store.runs import run_lists, write_run

LISTS = {VISITOR: [9, 8, 7], **{user: [user + 6, user + 7, user + 8] for user in range(6)}}


@pytest.fixture
def keys(database: Database) -> CatalogKeys:
    with database.begin() as connection:
        write(connection, folder(users=["zzz"]))  # so that keys are not indices
        write(connection, shop())
        write(connection, folder(outfits=[('o99 "x",\\', ["i01", "i02"], True)]))
        return read_keys(connection)


def digest_of(database: Database, run_id: int) -> str:
    with database.connect() as connection:
        return run_digest(connection, run_id)


def test_the_digest_is_that_of_the_documented_lines(database: Database, keys: CatalogKeys) -> None:
    lists = {**LISTS, 5: [20, 11], 6: []}
    run_id = write_run(database, keys, run_lists(lists), shown=2)
    lines = ["\t{o09,o08,o07}"]
    lines += [f"u{n:02}\t{{o{n + 6:02},o{n + 7:02},o{n + 8:02}}}" for n in range(5)]
    # Quoted as in an array of texts, and its backslashes doubled once more as COPY does it.
    lines += ['u05\t{"o99 \\\\"x\\\\",\\\\\\\\",o11}', "zzz\t{}"]
    expected = hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    assert digest_of(database, run_id) == expected


def test_the_digest_changes_with_any_place_of_any_list_and_nothing_else(
    database: Database, keys: CatalogKeys
) -> None:
    lists = {**LISTS, 6: [1, 2, 3]}
    first = digest_of(database, write_run(database, keys, run_lists(lists), shown=3))
    other_order = run_lists(dict(reversed(lists.items())), score=0.25)
    assert digest_of(database, write_run(database, keys, other_order, shown=2)) == first
    changed = [
        {**lists, 3: [9, 10, 12]},
        {**lists, 3: [9, 11, 10]},
        {**lists, 3: [9, 10]},
        {**lists, VISITOR: [9, 8, 6]},
        {**lists, 0: lists[1], 1: lists[0]},
        {user: outfits for user, outfits in lists.items() if user != VISITOR},
    ]
    digests = {
        digest_of(database, write_run(database, keys, run_lists(one), shown=3)) for one in changed
    }
    assert len(digests | {first}) == len(changed) + 1
    with database.connect() as connection, pytest.raises(NotFoundError, match="run 99"):
        run_digest(connection, 99)


def test_a_kept_run(database: Database, keys: CatalogKeys) -> None:
    run_id = write_run(database, keys, run_lists({**LISTS, 6: [1]}), shown=2)
    with database.connect() as connection:
        found = kept_run(connection, run_id)
    assert found.current
    assert found.parameters == {"model": "s-1"}
    assert found.statistics == {"lists": 6}
    assert found.users == {"warm": 7, "cold": 0, "stranger": 0}
    assert (found.shown, found.visitors, found.places) == (2, True, 6 * 3 + 1)
    assert found.started <= found.written


def test_the_same_run_twice_differs_in_nothing(database: Database, keys: CatalogKeys) -> None:
    lists = run_lists({**LISTS, 6: [1, 2, 3]})
    runs = [write_run(database, keys, lists, shown=2) for _ in range(2)]
    with database.connect() as connection:
        found = compare_runs(connection, *runs)
    assert found.mean_overlap == 1
    assert found.before.mean_score == 0.5
    assert (
        found.users_gone,
        found.users_new,
        found.users_reordered,
        found.users_changed,
        found.outfits_gone,
        found.outfits_new,
        found.visitors_changed,
    ) == (0, 0, 0, 0, 0, 0, False)


def test_a_comparison_equals_one_by_hand(
    database: Database, keys: CatalogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recjob.store.run_comparison.USERS_AT_A_TIME", 2)
    before = {VISITOR: [9, 8, 7], 0: [6, 7, 8], 1: [7, 8, 9], 2: [8, 9], 3: [5, 6], 4: [1], 5: []}
    first = write_run(database, keys, run_lists({**before, 6: [1, 2]}, 0.25), shown=2)
    # A user came, and one whom only the first run knows has gone.
    with administrator(database.url) as engine, engine.begin() as connection:
        write(connection, folder(users=["u99"]))
        connection.execute(text("DELETE FROM app_user WHERE user_id = 'zzz'"))
        now = read_keys(connection)
    after = {VISITOR: [9, 8, 6], 0: [6, 7, 9], 1: [8, 7, 9], 2: [8, 10], 3: [3, 4], 4: [1, 2]}
    second = write_run(database, now, run_lists({**after, 5: [], 6: [19, 18]}), shown=2)
    with database.connect() as connection:
        found = compare_runs(connection, first, second)
        with pytest.raises(NotFoundError, match="run 99"):
            compare_runs(connection, first, 99)
    # 6 7 8 9 5 1 2 before, 6 7 8 10 3 4 1 2 19 18 after, of 21 outfits
    assert found.before == RunShape(first, 7, 7, 7 / 21, 0.25)
    assert found.after == RunShape(second, 7, 10, 10 / 21, 0.5)
    assert (found.users_gone, found.users_new) == (1, 1)
    assert (found.users_reordered, found.users_changed) == (1, 3)  # 1; 2, 3 and 4
    assert (found.outfits_gone, found.outfits_new) == (2, 5)
    assert not found.visitors_changed  # in the places that readers see
    overlaps = [1, 1, 1 / 2, 0, 1 / 2, 1]
    assert found.mean_overlap == pytest.approx(np.mean(overlaps))
    assert rollback(database) == first
