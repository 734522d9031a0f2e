"""What is due, by the ledger and a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from recjob.jobs.schedule_due import (
    FIRST_SEEN,
    STOPPED,
    TAKEN_OUT,
    Running,
    Skip,
    Start,
    Waiting,
    plan,
)
from recjob.jobs.schedule_entries import schedule_entries
from recjob.settings import ScheduleSettings, Settings
from recjob.store.ledger import Outcome
from recjob.store.schedule_runs import ScheduleRow

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Night:
    """A schedule of import at 1:00, embed at 1:30 and nightly at 2:00, and its ledger."""

    settings: ScheduleSettings = field(
        default_factory=lambda: ScheduleSettings(
            import_folder="shop",
            autoencoder_cron="",
            teacher_cron="",
            retention_cron="",
            wait_hours=4,
            catch_up_hours=48,
        )
    )
    rows: dict[str, ScheduleRow] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)

    def at(self, now: datetime) -> list[str]:
        """The actions of one tick, which the ledger of the test takes over."""
        entries = schedule_entries(Settings(schedule=self.settings))
        told = []
        for action in plan(entries, self.rows, self.running, self.waiting, now, self.settings):
            name = action.entry.name
            if isinstance(action, Start):
                self.running[name] = Running(now, 0)
                told.append(f"start {name} {action.slot:%d %H:%M}")
            else:
                assert isinstance(action, Skip)
                self.put(name, action.slot, action.outcome, reason=action.reason)
                told.append(f"skip {name} {action.slot:%d %H:%M}: {action.reason}")
        return told

    def put(
        self, name: str, slot: datetime, outcome: Outcome = "done", reason: str | None = None
    ) -> None:
        """A row of the ledger."""
        entries = schedule_entries(Settings(schedule=self.settings))
        identity = next(entry.identity for entry in entries if entry.name == name)
        known = self.rows.get(name)
        attempts = known.attempts if known is not None and known.slot == slot else 1
        self.rows[name] = ScheduleRow(
            name, slot, slot, None, outcome, attempts, reason, "host", 1, None, identity
        )

    def end(self, name: str, slot: datetime, outcome: Outcome = "done") -> None:
        """The run of an entry has ended."""
        del self.running[name]
        self.put(name, slot, outcome, "its own fault")


@pytest.fixture
def night() -> Night:
    """All entries have been dealt with until Monday at noon."""
    made = Night()
    for name in ("import", "embed", "nightly", "student"):
        made.put(name, MONDAY + 12 * HOUR)
    return made


def tuesday(hour: float) -> datetime:
    return MONDAY + timedelta(days=1, hours=hour)


def test_a_new_schedule_begins_with_the_next_times() -> None:
    night = Night()
    told = night.at(tuesday(12))
    assert len(told) == 4
    assert all(line.endswith(FIRST_SEEN) for line in told)
    assert night.at(tuesday(12.1)) == []
    assert night.at(tuesday(25)) == ["start import 03 01:00"]


def test_an_ordinary_night(night: Night) -> None:
    assert night.at(tuesday(0.99)) == []
    assert night.at(tuesday(1)) == ["start import 02 01:00"]
    assert night.at(tuesday(1.2)) == []
    night.end("import", tuesday(1))
    assert night.at(tuesday(1.4)) == []
    assert night.at(tuesday(1.5)) == ["start embed 02 01:30"]
    assert night.at(tuesday(2.1)) == [], "embed runs"
    night.end("embed", tuesday(1.5))
    assert night.at(tuesday(2.2)) == ["start nightly 02 02:00"]
    night.end("nightly", tuesday(2))
    assert night.at(tuesday(24)) == []


def test_after_downtime_each_missed_entry_runs_once_in_its_order(night: Night) -> None:
    now = MONDAY + timedelta(days=3, hours=9)
    assert night.at(now) == ["start import 04 01:00"]
    assert night.at(now + HOUR) == []
    night.end("import", MONDAY + timedelta(days=3, hours=1))
    assert night.at(now + HOUR) == ["start embed 04 01:30"]
    night.end("embed", MONDAY + timedelta(days=3, hours=1.5))
    assert night.at(now + HOUR) == ["start nightly 04 02:00"]
    night.end("nightly", MONDAY + timedelta(days=3, hours=2))
    assert night.at(now + 2 * HOUR) == []


def test_what_was_missed_for_too_long_is_not_made_up_for(night: Night) -> None:
    night.put("student", MONDAY - timedelta(days=10))  # Sundays at 5:00
    told = night.at(MONDAY + timedelta(days=1.5) + 6 * HOUR)
    student = next(line for line in told if "student" in line)
    assert student == "skip student 31 05:00: missed by more than 48 hours (catch_up_hours)"


def test_a_late_look_at_the_clock_is_no_miss(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"catch_up_hours": 0.0})
    assert night.at(tuesday(1) + timedelta(seconds=2)) == ["start import 02 01:00"]


def test_no_second_run_while_one_runs_and_the_missed_one_after_it(night: Night) -> None:
    night.running["import"] = Running(tuesday(1), 0)
    assert "import" not in " ".join(night.at(tuesday(26)))
    night.end("import", tuesday(1))
    assert "start import 03 01:00" in night.at(tuesday(26))


def test_who_waited_long_enough_is_skipped_with_the_reason(night: Night) -> None:
    night.running["import"] = Running(tuesday(1), 0)
    assert night.at(tuesday(1.5)) == []
    assert night.at(tuesday(5.4)) == []
    assert night.at(tuesday(5.5)) == ["skip embed 02 01:30: import has not ended after 4 hours"]
    assert night.rows["embed"].outcome == "skipped"
    assert night.at(tuesday(9.5)) == ["skip nightly 02 02:00: import has not ended after 4 hours"]


def test_waiting_counts_from_the_beginning_of_what_is_waited_for(night: Night) -> None:
    night.running["import"] = Running(tuesday(1), 0)
    night.at(tuesday(1.5))
    night.at(tuesday(2))
    night.end("import", tuesday(1))
    assert night.at(tuesday(5)) == ["start embed 02 01:30"]
    assert night.at(tuesday(8.9)) == [], "nightly is due since 2:00, embed began at 5:00"
    assert night.at(tuesday(9)) == ["skip nightly 02 02:00: embed has not ended after 4 hours"]


@pytest.mark.parametrize("outcome", ["failed", "killed", "refused"])
def test_a_night_goes_on_with_a_stale_catalog_or_not(night: Night, outcome: Outcome) -> None:
    night.put("import", tuesday(1), outcome, "the export shrank")
    night.rows["import"] = replace(night.rows["import"], attempts=99)
    assert "start embed 02 01:30" in night.at(tuesday(1.5))
    del night.running["embed"]
    night.put("embed", MONDAY + 12 * HOUR)
    night.settings = night.settings.model_copy(update={"stale_catalog": False})
    assert night.at(tuesday(1.6)) == ["skip embed 02 01:30: import: the export shrank"]


def test_embed_waits_for_a_student_that_is_trained_not_for_one_that_trains(night: Night) -> None:
    night.put("import", tuesday(1))
    night.running["student"] = Running(MONDAY, 1)
    assert night.at(tuesday(1.5)) == []
    assert night.at(tuesday(5.5)) == ["start embed 02 01:30"], "not for ever"
    del night.running["embed"]
    night.running["student"] = Running(MONDAY, 0)
    night.waiting = Waiting()
    assert night.at(tuesday(1.5)) == ["start embed 02 01:30"]


@pytest.mark.parametrize("outcome", ["running", "killed"])
def test_a_run_that_was_cut_short_is_taken_up(night: Night, outcome: Outcome) -> None:
    night.put("nightly", tuesday(2), outcome)
    night.put("import", tuesday(1))
    night.put("embed", tuesday(1.5))
    assert night.at(tuesday(3)) == ["start nightly 02 02:00"]


def test_a_run_that_is_always_cut_short_is_given_up(night: Night) -> None:
    night.put("import", tuesday(1))
    night.put("embed", tuesday(1.5))
    night.put("nightly", tuesday(2), "running")
    night.rows["nightly"] = replace(night.rows["nightly"], attempts=5)
    assert night.at(tuesday(3)) == ["skip nightly 02 02:00: cut short after 5 attempts"]
    assert night.rows["nightly"].outcome == "killed"
    assert night.at(tuesday(3.1)) == []


def test_a_run_is_taken_up_after_any_number_of_stops(night: Night) -> None:
    night.put("import", tuesday(1))
    night.put("embed", tuesday(1.5))
    night.put("nightly", tuesday(2), "killed", STOPPED)
    night.rows["nightly"] = replace(night.rows["nightly"], attempts=99)
    assert night.at(tuesday(3)) == ["start nightly 02 02:00"]


def test_a_failed_run_waits_for_its_next_time(night: Night) -> None:
    night.put("import", tuesday(1), "failed")
    assert night.at(tuesday(1.1)) == []


def test_a_changed_expression_begins_anew(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"student_cron": "0 13 * * mon"})
    now = MONDAY + 14 * HOUR
    assert night.at(now) == [f"skip student 01 14:00: {FIRST_SEEN}"]
    assert night.at(now + HOUR) == []
    night.put("import", MONDAY + timedelta(days=7, hours=1))
    assert "start student 08 13:00" in night.at(MONDAY + timedelta(days=7, hours=13))


def test_what_was_taken_out_and_put_back_has_missed_nothing(night: Night) -> None:
    there = night.settings
    night.settings = there.model_copy(update={"import_folder": ""})
    assert night.at(MONDAY + 13 * HOUR) == [f"skip import 01 13:00: {TAKEN_OUT}"]
    night.settings = there
    assert night.at(MONDAY + 14 * HOUR) == [f"skip import 01 14:00: {FIRST_SEEN}"]


def test_a_student_ahead_of_its_time(night: Night) -> None:
    night.put("embed", tuesday(1.5))
    night.put("nightly", tuesday(2))
    night.waiting.ahead("student", tuesday(6), "much is new")
    night.running["import"] = Running(tuesday(1), 0)
    assert night.at(tuesday(6)) == []
    night.end("import", tuesday(1))
    assert night.at(tuesday(7)) == ["start student 02 06:00"]
