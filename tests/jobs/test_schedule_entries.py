"""The schedule of the settings."""

from __future__ import annotations

import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from recjob.errors import SettingsError
from recjob.jobs.runner import JOB_LOCKS
from recjob.jobs.schedule_entries import PROGRAM, Tie, program, schedule_entries
from recjob.settings import ScheduleSettings, Settings


def settings(**schedule: object) -> Settings:
    return Settings(schedule=ScheduleSettings.model_validate(schedule))


def test_entries_come_behind_those_that_they_wait_for() -> None:
    entries = schedule_entries(settings(import_folder="shop"))
    names = [entry.name for entry in entries]
    for entry in entries:
        for before in entry.after:
            assert names.index(before.entry) < names.index(entry.name)
    order = TopologicalSorter({e.name: {b.entry for b in e.after} for e in entries})
    assert len(tuple(order.static_order())) == len(entries)


def test_the_night_and_the_trainings() -> None:
    entries = {entry.name: entry for entry in schedule_entries(settings(import_folder="a b"))}
    assert entries["import"].steps[0].arguments == ("import", "tables", "a b", "--snapshot")
    assert [step.arguments for step in entries["student"].steps] == [
        ("distill", "--if-changed"),
        ("compile",),
        ("gate",),
    ]
    assert entries["nightly"].steps[0].arguments == ("nightly-recommend",)
    assert entries["teacher"].limit_seconds == 72 * 3600


def test_every_job_is_one_of_the_ledgers() -> None:
    jobs = {
        step.job for entry in schedule_entries(settings(import_folder="x")) for step in entry.steps
    }
    assert jobs <= JOB_LOCKS.keys()


def test_without_a_folder_nothing_is_imported() -> None:
    entries = {entry.name: entry for entry in schedule_entries(settings(import_folder=""))}
    assert entries["import"].cron is None


def test_an_empty_expression_takes_an_entry_out() -> None:
    entries = {entry.name: entry for entry in schedule_entries(settings(embed_cron="  "))}
    assert entries["embed"].cron is None
    assert entries["embed"].identity == ""


def test_whether_a_night_needs_its_import() -> None:
    def ties(stale: bool) -> set[Tie]:
        entries = schedule_entries(settings(import_folder="x", stale_catalog=stale))
        nights = [entry for entry in entries if entry.name in ("embed", "nightly")]
        return {b.tie for entry in nights for b in entry.after if b.entry == "import"}

    assert ties(True) == {Tie.ENDED}
    assert ties(False) == {Tie.SUCCEEDED}


def test_a_wrong_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^schedule\.embed_cron: 'x'"):
        schedule_entries(settings(embed_cron="x"))
    with pytest.raises(SettingsError, match=r"^schedule\.timezone: .*'Nowhere'"):
        schedule_entries(settings(timezone="Nowhere"))


def test_commands_have_the_schedulers_settings_file() -> None:
    assert program(None)(["embed"]) == [sys.executable, str(PROGRAM), "embed"]
    assert program(Path("a.toml"))(["embed"])[2:] == ["embed", "--settings", "a.toml"]
    assert PROGRAM.is_file()
