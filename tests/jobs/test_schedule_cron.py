"""Cron expressions in zones: every time on the wall once, whatever is done to the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from recjob.errors import SettingsError
from recjob.jobs.schedule_cron import Cron, named_zone

KEY = "schedule.nightly_cron"
ZONES = ("Europe/Berlin", "America/Santiago", "Australia/Lord_Howe")
"""Changes at two, at midnight, and by half an hour."""


def cron(expression: str, zone: str = "UTC") -> Cron:
    return Cron(expression, ZoneInfo(zone), KEY)


def moments(schedule: Cron, start: datetime, end: datetime) -> list[datetime]:
    found, at = [], start
    while (moment := schedule.next(at)) is not None and moment <= end:
        found.append(moment)
        at = moment
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", ["0 0", "15 2"])
def test_a_nightly_job_runs_once_on_every_date_of_a_year(zone: str, at: str) -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    found = moments(cron(f"{at} * * *", zone), start, start + timedelta(days=365))
    dates = [moment.astimezone(ZoneInfo(zone)).date() for moment in found]
    first = dates[0]
    assert dates == [first + timedelta(days=day) for day in range(len(dates))]
    assert abs(len(dates) - 365) <= 1


def test_in_autumn_the_first_of_the_two_half_past_twos_counts() -> None:
    found = moments(
        cron("30 2 * * *", "Europe/Berlin"),
        datetime(2026, 10, 24, 12, tzinfo=UTC),
        datetime(2026, 10, 26, 12, tzinfo=UTC),
    )
    assert found == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]


def test_in_spring_what_the_clock_leaves_out_comes_an_hour_later() -> None:
    found = moments(
        cron("30 2 * * *", "Europe/Berlin"),
        datetime(2026, 3, 28, 12, tzinfo=UTC),
        datetime(2026, 3, 30, 12, tzinfo=UTC),
    )
    assert [moment.astimezone(ZoneInfo("Europe/Berlin")).hour for moment in found] == [3, 2]


def test_the_latest_of_many_missed_times() -> None:
    hourly = cron("15 * * * *")
    end = datetime(2026, 5, 3, 10, 15, tzinfo=UTC)
    assert hourly.latest(end - timedelta(days=2), end) == end
    assert hourly.latest(end, end) is None
    assert hourly.latest(end, end + timedelta(minutes=59)) is None
    assert hourly.latest(end - timedelta(days=2), end - timedelta(microseconds=1)) == (
        end - timedelta(hours=1)
    )


def test_a_time_that_was_moved_behind_another_is_not_lost() -> None:
    # Half past two of that day is 01:30 UTC, three o'clock 01:00 UTC.
    halves = cron("*/30 2,3 * * *", "Europe/Berlin")
    start = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
    end = datetime(2026, 3, 29, 3, tzinfo=UTC)
    assert moments(halves, start, end) == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    ]
    assert halves.latest(start, end) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_both_days_must_hold() -> None:
    first_sunday = cron("0 5 1-7 * sun")
    found = moments(
        first_sunday, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    )
    assert [moment.date() for moment in found] == [
        date(2026, 1, 4),
        date(2026, 2, 1),
        date(2026, 3, 1),
    ]


@pytest.mark.parametrize(
    "expression",
    ["nightly", "@daily", "0 2 * *", "61 2 * * *", "0 5 * * 0", "0 5 * * mon,3", "0 0 30 feb *"],
)
def test_what_is_no_expression_is_told_with_its_key_in_one_line(expression: str) -> None:
    with pytest.raises(SettingsError, match=r"^schedule\.nightly_cron: ") as caught:
        cron(expression)
    assert "\n" not in str(caught.value)
    assert expression in str(caught.value)


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "Europe", "../etc/passwd", "/etc/localtime"])
def test_what_is_no_zone_is_told_with_its_key(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^schedule\.timezone: there is no time zone"):
        named_zone(name, "schedule.timezone")
