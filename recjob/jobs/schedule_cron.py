"""Cron expressions in a named zone: which times they name, on days with and without a clock change.

APScheduler's trigger finds the times on the wall clock; the zone turns them into moments here. Its
own way through a clock change would run a night at 02:30 twice in autumn, and leave out a night at
midnight where the clock goes forward at midnight (Cairo, Santiago). Here every time on the wall
happens once: of a repeated hour the first, and what a skipped hour names comes as much later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from recjob.errors import SettingsError, one_line

LONGEST_CHANGE: Final = timedelta(hours=3)
"""No zone's clock is changed by more (the usual is one hour): times on the wall that far apart
come in their order."""
HELP: Final = (
    "write minute, hour, day of the month, month and day of the week (mon to sun), as in "
    '"0 2 * * *"'
)


class Cron:
    """A cron expression in a zone. Moments are aware datetimes; results are in UTC."""

    def __init__(self, expression: str, zone: ZoneInfo, key: str) -> None:
        """Raises SettingsError, which names `key`, for what is no expression or never happens."""
        self.expression = expression
        self.zone = zone
        fields = expression.split()
        # Cron's 0 is Sunday and APScheduler's is Monday: a number would mean the wrong day to one.
        if len(fields) == 5 and any(
            character.isdigit() for part in fields[4].split(",") for character in part.split("/")[0]
        ):
            raise SettingsError(
                f"{key}: {expression!r} has a day of the week by number; write its name, mon to sun"
            )
        try:
            self._trigger = CronTrigger.from_crontab(expression, timezone=UTC)
        except ValueError as error:
            raise SettingsError(
                f"{key}: {expression!r} is no cron expression ({one_line(error)}); {HELP}"
            ) from None
        if next(self._walls(datetime(2000, 1, 1)), None) is None:
            raise SettingsError(f"{key}: {expression!r} names a day that never comes; {HELP}")

    @property
    def identity(self) -> str:
        """The expression and its zone, which the ledger keeps to see a change."""
        return f"{self.expression} {self.zone.key}"

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last moment that it names later than `after` and not later than `until`."""
        found: datetime | None = None
        end = self._wall(until) + LONGEST_CHANGE
        for wall in self._walls(self._wall(after) - LONGEST_CHANGE):
            if wall > end:
                break
            moment = self._moment(wall)
            if after < moment <= until and (found is None or moment > found):
                found = moment
        return found

    def next(self, after: datetime) -> datetime | None:
        """The first moment that it names later than `after`; None after the last year there is."""
        found: datetime | None = None
        for wall in self._walls(self._wall(after) - LONGEST_CHANGE):
            moment = self._moment(wall)
            if found is not None and wall > self._wall(found) + LONGEST_CHANGE:
                break
            if moment > after and (found is None or moment < found):
                found = moment
        return found

    def _walls(self, start: datetime) -> Iterator[datetime]:
        """The times on the wall, ascending, from `start` on, without a zone."""
        now = start.replace(tzinfo=UTC)
        while (wall := self._trigger.get_next_fire_time(None, now)) is not None:
            yield wall.replace(tzinfo=None)
            now = wall + timedelta(microseconds=1)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def _moment(self, wall: datetime) -> datetime:
        # fold=0 is the first of a repeated hour; in a skipped hour it counts on from before it.
        return wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)


def named_zone(name: str, key: str) -> ZoneInfo:
    """The zone of an IANA name; SettingsError, which names `key`, where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, a path
        raise SettingsError(
            f"{key}: there is no time zone {name!r}; write one like Europe/Berlin"
        ) from None
