"""`schedule --list` and mistakes in the schedule, as a shell sees them."""

from __future__ import annotations

import pytest

from recjob.settings import Settings
from tests.command_line import Run, environment


@pytest.fixture
def variables(database_settings: Settings) -> dict[str, str]:
    """The environment of a fresh database and home."""
    url = database_settings.database_url
    assert url is not None
    return environment(database_settings.home, url.get_secret_value())


def test_the_next_runs(command: Run, variables: dict[str, str]) -> None:
    answer = command("schedule", "--list", "--json", variables=variables).json
    assert answer["leader"] is False
    entries = {entry["entry"]: entry for entry in answer["entries"]}
    assert entries["nightly"]["commands"] == ["nightly-recommend"]
    assert entries["nightly"]["next"].endswith("T02:00:00Z")
    assert entries["nightly"]["last_slot"] is None
    assert entries["import"]["next"] is None, "there is no folder to import"
    table = command("schedule", "--list", variables=variables)
    assert table.code == 0
    assert "no scheduler is at work" in table.out


def test_a_wrong_expression_is_one_line_that_names_the_key(
    command: Run, variables: dict[str, str]
) -> None:
    wrong = variables | {"RECJOB_SCHEDULE__EMBED_CRON": "at dawn"}
    for options in (["--list"], []):
        message = command("schedule", *options, variables=wrong).error(2)
        assert message.startswith("schedule.embed_cron: 'at dawn' is no cron expression")


def test_json_is_for_the_list(command: Run, variables: dict[str, str]) -> None:
    assert command("schedule", "--json", variables=variables).code == 2
