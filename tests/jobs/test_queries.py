"""Lists, models and runs, as the command line asks for them."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from recjob.errors import NotFoundError
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.queries import (
    publish_run,
    recommendations,
    run_details,
    run_difference,
    runs,
    show_earlier_run,
    upgrade_schema,
)
from recjob.settings import Settings
from recjob.store.database import Database, open_database
from tests.fixtures_shop import K, Shop


def test_a_users_list_is_that_of_the_view(trained_shop: Shop) -> None:
    lists, items = trained_shop.lists(), trained_shop.items_of()
    categories = dict(trained_shop.rows("SELECT item_id, category FROM item"))
    for user, entries in lists.items():
        answer = recommendations(trained_shop.settings, user)
        assert answer.user == user
        assert [(outfit.outfit, outfit.score) for outfit in answer.outfits] == entries
        assert [outfit.rank for outfit in answer.outfits] == list(range(1, K + 1))
        for outfit in answer.outfits:
            assert {item.item for item in outfit.items} == set(items[outfit.outfit])
            assert all(item.category == categories[item.item] for item in outfit.items)


def test_the_list_of_visitors(trained_shop: Shop) -> None:
    answer = recommendations(trained_shop.settings, None)
    assert (answer.user, answer.kind) == (None, "stranger")
    assert [(o.outfit, o.score) for o in answer.outfits] == trained_shop.default_list()


def test_runs_and_back_again(shop: Shop) -> None:
    [first] = runs(shop.settings)
    assert (first.shown, first.warm, first.cold, first.stranger) == (True, 12, 3, 2)
    with pytest.raises(NotFoundError, match="oldest that is kept"):
        show_earlier_run(shop.settings, None)
    before = shop.lists()
    [(gone,)] = shop.rows("SELECT min(outfit_id) FROM current_recommendation")
    shop.rows("UPDATE outfit SET available = false WHERE outfit_id = %s", gone)
    second = shop.run("nightly-recommend", nightly_recommend)
    assert [(run.run, run.shown) for run in runs(shop.settings)] == [
        (second.run_id, True),
        (first.run, False),
    ]
    new = shop.lists()
    assert new != before
    assert show_earlier_run(shop.settings, None).run == first.run
    assert [run.shown for run in runs(shop.settings)] == [False, True]
    assert recommendations(shop.settings, "user-001").run == first.run
    # The earlier run; where something was sold out since, what came behind it has moved up.
    for user, entries in shop.lists().items():
        left = [entry for entry in before[user] if entry[0] != gone]
        assert entries[: len(left)] == left
        assert len(entries) == K
        assert gone not in {outfit for outfit, _ in entries}
    assert show_earlier_run(shop.settings, second.run_id).shown
    assert shop.lists() == new
    with pytest.raises(NotFoundError, match=r"run 999 is not kept; .*runs list"):
        show_earlier_run(shop.settings, 999)


def test_runs_side_by_side(shop: Shop) -> None:
    [first] = runs(shop.settings)
    with pytest.raises(NotFoundError, match=f"no run to compare run {first.run} with"):
        run_difference(shop.settings, None, None)
    again = shop.run("nightly-recommend", nightly_recommend).run_id
    details = [run_details(shop.settings, run) for run in (first.run, again, None)]
    assert details[2] == details[1]
    assert details[0].digest == details[1].digest
    assert (details[1].run, details[1].shown, details[0].shown) == (again, True, False)
    assert (details[1].k, details[1].visitors) == (K, True)
    assert details[1].model == shop.model_folder("student").name
    same = run_difference(shop.settings, None, None)
    assert (same.before.run, same.after.run) == (first.run, again)
    assert (same.mean_overlap, same.users_changed, same.users_reordered) == (1, 0, 0)
    [(gone,)] = shop.rows("SELECT min(outfit_id) FROM current_recommendation")
    shop.rows("UPDATE outfit SET available = false WHERE outfit_id = %s", gone)
    other = shop.run("nightly-recommend", nightly_recommend).run_id
    found = run_difference(shop.settings, again, other)
    assert found.users_changed > 0
    assert found.outfits_gone >= 1
    assert found.mean_overlap is not None
    assert found.mean_overlap < 1
    assert run_details(shop.settings, other).digest != details[1].digest
    assert publish_run(shop.settings, again).shown
    assert run_details(shop.settings, None).run == again
    # Now the one seen last is the newer.
    back = run_difference(shop.settings, None, None)
    assert (back.before.run, back.after.run) == (other, again)
    for missing in (
        lambda: run_details(shop.settings, 999),
        lambda: publish_run(shop.settings, 999),
        lambda: run_difference(shop.settings, 999, None),
    ):
        with pytest.raises(NotFoundError, match=r"run 999 is not kept; .*runs list"):
            missing()


def test_who_has_no_list_and_why(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match="no user 'nobody'"):
        recommendations(shop.settings, "nobody")
    with open_database(shop.settings) as database, database.begin() as connection:
        connection.execute(text("INSERT INTO app_user (user_id) VALUES ('late')"))
    with pytest.raises(NotFoundError, match=r"'late' came after run .*nightly-recommend"):
        recommendations(shop.settings, "late")


def test_nothing_is_there_yet(database: Database, database_settings: Settings) -> None:
    assert runs(database_settings) == ()
    with pytest.raises(NotFoundError, match="no run is published"):
        recommendations(database_settings, "anna")
    for ask in (show_earlier_run, run_details):
        with pytest.raises(NotFoundError, match="no run is published"):
            ask(database_settings, None)
    with pytest.raises(NotFoundError, match="no run is published"):
        run_difference(database_settings, None, None)


def test_upgrading_what_is_current_changes_nothing(
    database: Database, database_settings: Settings
) -> None:
    with database.connect() as connection:
        version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert upgrade_schema(database_settings).version == version
