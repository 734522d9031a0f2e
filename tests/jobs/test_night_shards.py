"""A night that is cut short goes on where it was, and shows what it would have shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recjob.errors import TemporaryError
from recjob.jobs import night_shards, nightly_recommend
from recjob.jobs.night import Night
from recjob.jobs.night_shards import shard_ranges
from recjob.jobs.nightly_recommend import NightlyResult
from recjob.jobs.runner import JobContext
from recjob.ranking.shard import ListShard
from tests.fixtures_shop import Shop

SHARD = 4
"""Users per shard: five shards of the shop's 17 users."""


@pytest.fixture
def small_shards(shop: Shop) -> Shop:
    """The shop, worked on in small shards; each night begins with none finished."""
    nightly = shop.settings.nightly.model_copy(update={"shard_users": SHARD})
    return replace(shop, settings=shop.settings.model_copy(update={"nightly": nightly}))


def night(shop: Shop) -> NightlyResult:
    return shop.run("nightly-recommend", nightly_recommend.nightly_recommend)


def work_files(shop: Shop) -> list[Path]:
    return [path for path in (shop.settings.home / "artifacts/work").rglob("*") if path.is_file()]


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int, stop: BaseException) -> list[int]:
    """From now on `stop` is raised instead of the shard after so many; first users of the shards
    that were scored."""
    scored: list[int] = []
    real = night_shards.one_shard

    def one_shard(context: JobContext, night: Night, start: int, stop_: int) -> ListShard:
        if len(scored) == shards:
            raise stop
        scored.append(start)
        return real(context, night, start, stop_)

    monkeypatch.setattr(night_shards, "one_shard", one_shard)
    return scored


def test_ranges_cover_every_user_once() -> None:
    assert shard_ranges(10, 4) == ((0, 4), (4, 8), (8, 10))
    assert shard_ranges(8, 4) == ((0, 4), (4, 8))
    assert shard_ranges(0, 4) == ()


def test_shards_change_nothing(shop: Shop, small_shards: Shop) -> None:
    before = shop.lists()
    result = night(small_shards)
    assert (result.shards, result.continued_shards, result.continues) == (5, 0, None)
    assert shop.lists() == before
    assert not work_files(shop)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TemporaryError("the disk is full")])
def test_finished_shards_are_not_scored_again(
    small_shards: Shop, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    shop, before = small_shards, small_shards.lists()
    with monkeypatch.context() as patch:
        scored = stop_after(patch, 3, stop)
        with pytest.raises(type(stop)):
            night(shop)
    assert scored == [0, 4, 8]
    scored = stop_after(monkeypatch, 99, stop)
    result = night(shop)
    assert scored == [12, 16]
    assert (result.shards, result.continued_shards) == (5, 3)
    assert result.continues == result.run_id - 1
    assert shop.lists() == before
    assert not work_files(shop)


def test_a_damaged_shard_is_scored_again(
    small_shards: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, before = small_shards, small_shards.lists()
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            night(shop)
    damaged = sorted(work_files(shop))[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    scored = stop_after(monkeypatch, 99, KeyboardInterrupt())
    night(shop)
    assert scored == [12, 16, 4]  # found when it was to be loaded
    assert shop.lists() == before


CHANGES: dict[str, Callable[[Shop], Shop]] = {
    "an outfit is sold out": lambda shop: (
        shop.rows(
            "UPDATE outfit SET available = false WHERE outfit_id = %s",
            shop.lists()["user-001"][0][0],
        ),
        shop,
    )[1],
    "other settings": lambda shop: replace(
        shop,
        settings=shop.settings.model_copy(
            update={"cold_start": shop.settings.cold_start.model_copy(update={"strategy": "avg"})}
        ),
    ),
    "the night is long over": lambda shop: (
        shop.rows("UPDATE job_run SET started = started - interval '1 day'"),
        shop,
    )[1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_is_not_passed_over(
    small_shards: Shop, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            night(small_shards)
    shop = CHANGES[change](small_shards)
    result = night(shop)
    assert result.continues is None
    # Equal inputs have equal lists, whenever they were scored.
    assert result.continued_shards == (3 if change == "the night is long over" else 0)


def test_a_night_that_was_killed_after_it_was_shown(
    small_shards: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = small_shards.settings.rules.model_copy(update={"exclude_recent_nights": 1})
    shop = replace(
        small_shards, settings=small_shards.settings.model_copy(update={"rules": recent})
    )

    def interrupted(context: JobContext) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nightly_recommend, "_clean_up", interrupted)
        with pytest.raises(KeyboardInterrupt):
            night(shop)
    shown, lists = shop.rows("SELECT current_run FROM publication"), shop.lists()
    result = night(shop)
    assert shop.rows("SELECT current_run FROM publication") == shown == [(result.run,)]
    assert result.continues == result.run != result.run_id
    assert shop.lists() == lists
    following = night(shop)
    assert following.run == following.run_id
    for user, entries in shop.lists().items():
        assert not set(entries) & set(lists[user]) or user in strangers(shop)


def strangers(shop: Shop) -> set[str]:
    return {user for user, liked in shop.liked().items() if not liked}
