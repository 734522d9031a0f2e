"""What the scheduler is doing, for its metrics, of which another thread tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

SERVICE_LOG: Final = "recjob.schedule"
"""Logger of the scheduler itself: it says what it starts and how that ended, at every level."""


@dataclass(frozen=True)
class Tick:
    """One look of the scheduler at the clock and the ledger."""

    leader: bool = False
    """Whether it starts the jobs; false: it stands by while another does."""
    last_tick: datetime = field(default_factory=lambda: datetime.now(UTC))
    """By this machine's clock."""
    next_runs: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    """When each entry of the schedule is due next, in UTC; entries that never run are absent."""
    database: bool = True
    """Whether the ledger could be looked at."""


class SchedulerState:
    """The last tick. The scheduler replaces it whole, so a reader never sees half of one."""

    def __init__(self) -> None:
        self._tick = Tick()

    def update(
        self, *, leader: bool, next_runs: Mapping[str, datetime], database: bool = True
    ) -> None:
        """Set the tick of now."""
        self._tick = Tick(leader, datetime.now(UTC), MappingProxyType(dict(next_runs)), database)

    @property
    def tick(self) -> Tick:
        """All of it at one time."""
        return self._tick

    @property
    def leader(self) -> bool:
        """As `Tick.leader`."""
        return self._tick.leader

    @property
    def last_tick(self) -> datetime:
        """As `Tick.last_tick`."""
        return self._tick.last_tick

    @property
    def next_runs(self) -> Mapping[str, datetime]:
        """As `Tick.next_runs`."""
        return self._tick.next_runs
