"""Stored lists on a real database: the same for ever, but where they no longer hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.evaluation_lists import evaluation_lists
from recjob.catalog.images import PackedImages
from recjob.catalog.split import Part, split_parts
from recjob.jobs.evaluation_sets import StoredLists, stored_lists
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop
from recjob.settings import EvaluationSettings, NegativesKind, Settings, SplitSettings
from recjob.store.catalog_store import read_catalog, read_keys
from recjob.store.database import Database
from tests.store.folders import folder, write

SPLIT = SplitSettings(train=1, validation=1, test=1)
Named = dict[tuple[str, frozenset[str]], list[frozenset[str]]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, split=SPLIT, evaluation=EvaluationSettings(negatives_per_positive=4)
    )


@pytest.fixture
def listed(database: Database, settings: Settings) -> Callable[..., tuple[StoredLists, Named]]:
    """Evaluates, and names the lists by ids: user and positive's items, and the negatives'."""

    def evaluate(
        kind: NegativesKind = "random", split: SplitSettings = SPLIT, user: str = ""
    ) -> tuple[StoredLists, Named]:
        found: list[tuple[StoredLists, Named]] = []

        def body(context: JobContext) -> JobResult:
            with database.connect() as connection:
                catalog, keys = read_catalog(connection), read_keys(connection)
            empty = np.empty(0, np.int64)
            shop = Shop(catalog, PackedImages.open(context.settings.home / "p", 64), empty, keys)
            parts = split_parts(catalog, split)
            users = np.array([catalog.user_ids.index(user)], np.int32) if user else None
            lists = stored_lists(context, shop, parts, Part.TEST, kind, users)

            def names(row: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> frozenset[str]:
                return frozenset(catalog.item_ids[item] for item in row if item >= 0)

            named = {
                (catalog.user_ids[user], names(rows[0])): [names(row) for row in rows[1:]]
                for user, rows in zip(lists.user, lists.items, strict=True)
            }
            assert len(named) == len(lists.user)
            assert (np.diff(lists.user) >= 0).all()
            found.append((lists, named))
            return JobResult()

        run_job("evaluate", database, settings.model_copy(update={"split": split}), body)
        return found[0]

    return evaluate


def import_shop(database: Database, name: str, n_items: int, n_users: int) -> None:
    """Items, outfits of a top, a bottom and sometimes shoes, and likings, named alike."""
    rng = np.random.default_rng(n_items)
    kinds = ("top", "bottom", "shoes")
    items = [(f"{name}{n}", kinds[n % 3], f"{name}{n}.jpg", True, "{}") for n in range(n_items)]
    outfits = [
        (
            f"{name}{n}",
            [f"{name}{3 * rng.integers(n_items // 3) + kind}" for kind in range(2 + n % 2)],
            True,
        )
        for n in range(5 * n_users)
    ]
    likings = [(f"{name}{n % n_users}", f"{name}{n}", None) for n in range(5 * n_users)]
    with database.begin() as connection:
        write(connection, folder(items, outfits, likings))


@pytest.mark.parametrize("kind", ["random", "half"])
def test_lists_outlast_a_growing_catalog(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]], kind: NegativesKind
) -> None:
    import_shop(database, "m", 60, 8)
    first, before = listed(kind)
    assert (first.as_stored, first.redrawn) == (0, 0)
    assert first.drawn == len(before) > 5
    import_shop(database, "a", 90, 6)
    second, after = listed(kind)
    assert before.items() <= after.items()
    assert (second.as_stored, second.drawn, second.redrawn) == (
        len(before),
        len(after) - len(before),
        0,
    )
    assert len(after) > len(before)
    third, again = listed(kind)
    assert again == after
    assert (third.as_stored, third.drawn) == (len(after), 0)
    np.testing.assert_array_equal(third.items, second.items)
    one, alone = listed(kind, user="m3")
    assert alone == {pair: rows for pair, rows in after.items() if pair[0] == "m3"}
    assert one.drawn == 0


def test_the_first_draw_is_that_of_the_catalog(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]]
) -> None:
    import_shop(database, "m", 60, 8)
    for kind, share in (("random", 0.0), ("hard", 1.0), ("half", 0.5)):
        lists, _ = listed(kind)
        with database.connect() as connection:
            catalog = read_catalog(connection)
        expected = evaluation_lists(
            catalog, split_parts(catalog, SPLIT), Part.TEST, 4, 0, hard_share=share
        )
        np.testing.assert_array_equal(lists.items, expected.items)
        np.testing.assert_array_equal(lists.user, expected.user)
        assert lists.left_out == expected.left_out


def test_a_list_that_no_longer_holds_is_drawn_anew(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]]
) -> None:
    import_shop(database, "m", 60, 8)
    _, before = listed()
    (user, positive), negatives = next(iter(before.items()))
    liked = negatives[0]
    with database.begin() as connection:
        write(connection, folder(outfits=[("new", sorted(liked), True)]))
        write(connection, folder(interactions=[(user, "new", None)]))
    lists, after = listed()
    touched = {pair for pair, rows in before.items() if pair[0] == user and liked in rows}
    assert lists.redrawn == len(touched)
    assert liked not in after[user, positive]
    for pair in before.keys() - touched:
        assert after[pair] == before[pair]
    # An item of a negative goes into quarantine: nobody ranks what has no picture.
    bad = min(after[user, positive][1])
    with database.begin() as connection:
        item = [(bad, "top", f"{bad}.jpg", True, "{}")]
        write(connection, folder(item), {f"{bad}.jpg": "broken"})
    lists, last = listed()
    assert lists.redrawn == sum(
        bad not in pair[1] and any(bad in row for row in rows) for pair, rows in after.items()
    )
    assert lists.redrawn > 0
    assert not any(bad in row for pair, rows in last.items() for row in (pair[1], *rows))
    assert listed()[0].redrawn == 0


def test_another_split_has_lists_of_its_own(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]]
) -> None:
    import_shop(database, "m", 60, 8)
    listed()
    other = SPLIT.model_copy(update={"key": "other"})
    assert listed(split=other)[0].as_stored == 0
    assert listed()[0].drawn == listed("half")[0].as_stored == 0
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM evaluation_set")) == 3


def test_the_datas_own_negatives(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]]
) -> None:
    files = SplitSettings(kind="files")
    items = [(f"i{n}", "top", f"i{n}.jpg", True, "{}") for n in range(30)]
    outfits = [(f"o{n}", [f"i{n}", f"i{n + 1}"], True) for n in range(20)]
    likings = [(f"u{n % 2}", f"o{n}", None, "train" if n < 16 else "test") for n in range(20)]
    wide = ["i7", "i9", "i11"]
    given = [
        ("u0", "o16", wide, "random"),
        ("u0", "o16", ["i3"], "hard"),
        ("u0", "o16", ["i5", "i4"], "random"),
        ("u0", "o16", ["i21"], "random"),
        *(("u1", "o17", [f"i{20 + n}"], "random") for n in range(6)),
    ]
    with database.begin() as connection:
        write(connection, folder(items, outfits, likings, (), given))
        write(connection, folder(items, outfits, likings, (), given))  # twice is once
        rows = text("SELECT count(*) FROM given_negative")
        assert connection.scalar(rows) == len(given)
    _, named = listed(split=files)
    own = named["u0", frozenset({"i16", "i17"})]
    # {i4, i5} is o4, which u0 likes: it is left out, and a drawn one takes the last place.
    assert own[:2] == [frozenset(wide), frozenset({"i21"})]
    assert frozenset({"i4", "i5"}) not in own
    assert named["u1", frozenset({"i17", "i18"})] == [frozenset({f"i{20 + n}"}) for n in range(4)]
    assert len(named) == 4
    _, half = listed("half", split=files)
    assert half["u0", frozenset({"i16", "i17"})][2] == frozenset({"i3"})
    _, by_default = listed(split=SplitSettings())
    assert by_default["u0", frozenset({"i16", "i17"})][:2] == own[:2]
    # By hash the data's negatives have no part in it.
    _, hashed = listed(split=SplitSettings(kind="hash"))
    assert frozenset({"i20"}) not in {row for rows in hashed.values() for row in rows}


def test_a_users_lists_go_with_the_user(
    database: Database, listed: Callable[..., tuple[StoredLists, Named]]
) -> None:
    import_shop(database, "m", 60, 8)
    _, before = listed()
    gone = next(iter(before))[0]
    with database.connect() as connection:
        connection.execute(text("RESET ROLE"))
        connection.execute(
            text(
                "DELETE FROM interaction USING app_user "
                "WHERE interaction.user_key = app_user.user_key "
                "AND user_id = :id"
            ),
            {"id": gone},
        )
        connection.execute(text("DELETE FROM app_user WHERE user_id = :id"), {"id": gone})
        left = connection.scalar(text("SELECT count(*) FROM evaluation_list"))
        connection.rollback()
    assert left == sum(pair[0] != gone for pair in before)
