"""A student ahead of its time, on the trained shop."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from recjob.jobs.schedule_due import Waiting
from recjob.jobs.schedule_early import STUDENT, EarlyStudent
from recjob.jobs.schedule_entries import schedule_entries
from recjob.store.database import open_database
from recjob.store.ledger import Outcome
from recjob.store.schedule_runs import ScheduleRow
from tests.fixtures_shop import Shop

NOW = datetime(2026, 6, 2, 4, tzinfo=UTC)


class Look:
    """Looks of one scheduler at the shop."""

    def __init__(self, shop: Shop, early_change: float) -> None:
        self.shop = shop
        self.early = EarlyStudent(early_change)

    def __call__(self, outcome: Outcome = "done") -> str | None:
        """Why the student shall run now; None: it shall not."""
        row = ScheduleRow(STUDENT, NOW, NOW, None, outcome, 1, None, "h", 1, None, "")
        waiting = Waiting()
        with open_database(self.shop.settings) as database, database.connect() as connection:
            entries = schedule_entries(self.shop.settings)
            self.early.look(connection, entries, {STUDENT: row}, waiting, NOW)
        noticed = waiting.noticed.get(STUDENT)
        return None if noticed is None else noticed.reason

    def ledger(self, job: str, added: int = 0) -> None:
        """A run of this job has ended."""
        self.shop.rows(
            "INSERT INTO job_run (job, host, pid, ended, outcome, counts) "
            "VALUES (%s, 'h', 1, now(), 'done', %s)",
            *(job, json.dumps({"interactions": {"added": added}})),
        )


@pytest.fixture
def new_likes(shop: Shop) -> int:
    """How many of the shop's likes the next import says that it brought: a fifth."""
    [(count,)] = shop.rows("SELECT count(*) FROM interaction")
    return int(count) // 5


def test_much_that_is_new_after_its_first_night(shop: Shop, new_likes: int) -> None:
    look = Look(shop, 0.15)
    assert look() is None, "nothing is new"
    look.ledger("import", new_likes)
    assert look() is None, "the night comes first"
    look.ledger("nightly-recommend")
    reason = look()
    assert reason is not None
    assert reason.startswith(("ahead of its time: 20.0% ", "ahead of its time: 19."))
    assert look() is None, "once for each import"


def test_little_that_is_new(shop: Shop, new_likes: int) -> None:
    look = Look(shop, 0.25)
    look.ledger("import", new_likes)
    look.ledger("nightly-recommend")
    assert look() is None


@pytest.mark.parametrize("outcome", ["refused", "failed", "killed", "running"])
def test_not_while_the_last_student_has_not_become_active(
    shop: Shop, new_likes: int, outcome: Outcome
) -> None:
    look = Look(shop, 0.15)
    look.ledger("import", new_likes)
    look.ledger("nightly-recommend")
    assert look(outcome) is None
    assert look() is not None
