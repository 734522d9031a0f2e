"""The page of the published run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from recjob.errors import NotFoundError
from recjob.jobs.import_tables import import_tables
from recjob.jobs.make_report import ReportResult, make_report
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.queries import show_earlier_run
from tests.fixtures_shop import Shop


def test_the_page_shows_users_of_every_kind(trained_shop: Shop) -> None:
    result = trained_shop.results["report"]
    assert isinstance(result, ReportResult)
    path = Path(result.report)
    assert path.is_absolute()
    assert path.is_relative_to(trained_shop.settings.home)
    page = path.read_text(encoding="utf-8")
    shown = {user for user in trained_shop.users() if user in page}
    assert len(shown) == result.users
    per_kind = trained_shop.settings.report.users_per_kind
    for kind, there_are in (("user", 12), ("newcomer", 3), ("stranger", 2)):
        assert sum(user.startswith(kind) for user in shown) == min(per_kind, there_are)
    lists = trained_shop.lists()
    most = trained_shop.settings.report.outfits_per_user
    for user in shown:
        assert all(outfit in page for outfit, _ in lists[user][:most])
    assert page.count("data:image/jpeg;base64,") > result.users
    assert "http://" not in page
    assert 'src="https://' not in page


PICTURES = 100_000
"""Characters of the page that the pictures of an outfit take, at most."""


def page_of(result: ReportResult) -> str:
    return Path(result.report).read_text(encoding="utf-8")


def test_the_run_that_readers_see(shop: Shop) -> None:
    first = shop.lists()["user-001"][0][0]
    shop.rows("UPDATE outfit SET available = false WHERE outfit_id = %s", first)
    night = shop.run("nightly-recommend", nightly_recommend)
    new = {outfit for entries in shop.lists().values() for outfit, _ in entries}
    page = page_of(shop.run("report", make_report))
    assert f"{night.run_id}" in page
    shop.rows("UPDATE outfit SET available = true")
    show_earlier_run(shop.settings, None)
    page = page_of(shop.run("report", make_report))
    assert first not in new
    assert first in page


def test_a_shop_without_strangers(shop: Shop) -> None:
    shop.rows("DELETE FROM app_user WHERE user_id LIKE 'stranger%'")
    shop.run("nightly-recommend", nightly_recommend)
    result = shop.run("report", make_report)
    assert result.users == 4 + 3
    assert "stranger-" not in page_of(result)


def test_items_in_quarantine_are_listed_with_their_reason(shop: Shop) -> None:
    (shop.folder / "shop" / "images" / "item-005.jpg").write_text("no picture")
    shop.run("import", partial(import_tables, folder=shop.folder / "shop"))
    shop.run("nightly-recommend", nightly_recommend)
    page = page_of(shop.run("report", make_report))
    assert "item-005" in page
    assert "not a picture" in page


def test_nothing_published_yet(shop: Shop) -> None:
    shop.rows("UPDATE publication SET current_run = NULL")
    with pytest.raises(NotFoundError, match="nightly-recommend"):
        shop.run("report", make_report)


def test_mixes_are_shown_with_their_items(shop: Shop) -> None:
    mixes = shop.settings.mixes.model_copy(update={"budget": 60})
    other = replace(shop, settings=shop.settings.model_copy(update={"mixes": mixes}))
    other.run("nightly-recommend", nightly_recommend)
    result = other.run("report", make_report)
    page = page_of(result)
    most = shop.settings.report.outfits_per_user
    listed = {
        outfit
        for user, entries in shop.lists().items()
        if user in page
        for outfit, _ in entries[:most]
    }
    mixed = [outfit for outfit in listed if outfit.startswith("mix-")]
    assert mixed
    items = shop.items_of()
    for outfit in mixed:
        place = page.index(outfit)
        around = page[max(0, place - PICTURES) : place + PICTURES]
        assert all(item in around for item in items[outfit])
