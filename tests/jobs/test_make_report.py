"""The page of the published run."""

from __future__ import annotations

from pathlib import Path

import pytest

from recjob.errors import NotFoundError
from recjob.jobs.make_report import ReportResult, make_report
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


def test_nothing_published_yet(shop: Shop) -> None:
    shop.rows("UPDATE publication SET current_run = NULL, previous_runs = '{}'")
    with pytest.raises(NotFoundError, match="nightly-recommend"):
        shop.run("report", make_report)
