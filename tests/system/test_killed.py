"""Commands that are killed without warning: the next start goes on, and readers notice nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import psycopg
import pytest

from tests.fixtures_shop import Shop
from tests.system.commands import clean_environment, command_line, wait_for

pytestmark = pytest.mark.system


def start(shop: Shop, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        command_line(*arguments),
        cwd=shop.folder,
        env=clean_environment(**shop.variables, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a command printed with --json."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    value = json.loads(out)
    assert isinstance(value, dict)
    return value


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def last_run(shop: Shop) -> tuple[int, str, str]:
    [row] = shop.rows("SELECT run_id, job, outcome FROM job_run ORDER BY run_id DESC LIMIT 1")
    return row[0], row[1], row[2]


def test_a_training_that_is_killed(shop: Shop) -> None:
    [(before,)] = shop.rows("SELECT model_id FROM model WHERE role = 'teacher'")
    process = start(shop, "train-teacher", RECJOB_TEACHER__EPOCHS="10000")
    trains = (
        "SELECT count(*) FROM job_run WHERE job = 'train-teacher' AND outcome = 'running' "
        "AND stages <> '[]'"
    )
    wait_for(lambda: process.poll() is not None or shop.rows(trains) == [(1,)])
    refused = start(shop, "train-teacher")
    _, message = refused.communicate()
    assert refused.returncode == 3
    assert f"pid {process.pid} " in message
    kill(process)
    killed, _, outcome = last_run(shop)
    assert outcome == "running"  # nobody has noticed yet
    again = result(start(shop, "train-teacher", "--json"))
    assert again["epochs"] == 1
    assert shop.rows("SELECT outcome, error FROM job_run WHERE run_id = %s", killed) == [
        ("killed", "it was killed, or lost the database")
    ]
    assert shop.rows("SELECT model_id, status FROM model WHERE role = 'teacher' ORDER BY 2") == [
        (again["model"], "active"),
        (before, "retired"),
    ]
    artifacts = shop.settings.home / "artifacts"
    assert [path.name for path in (artifacts / ".unfinished").iterdir()] == ["lock"]
    registered = {row[0] for row in shop.rows("SELECT model_id FROM model")}
    assert {path.name for path in (artifacts / "models").iterdir()} == registered


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_interrupted(shop: Shop, number: signal.Signals) -> None:
    models = shop.rows("SELECT model_id, status FROM model ORDER BY 1")
    process = start(shop, "train-teacher", RECJOB_TEACHER__EPOCHS="10000")
    running = "SELECT count(*) FROM job_run WHERE outcome = 'running'"
    wait_for(lambda: process.poll() is not None or shop.rows(running) == [(1,)])
    time.sleep(1)  # the handler of SIGTERM is set after the row is written
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert shop.rows("SELECT outcome, error FROM job_run ORDER BY run_id DESC LIMIT 1") == [
        ("failed", "interrupted")
    ]
    assert shop.rows("SELECT model_id, status FROM model ORDER BY 1") == models


@pytest.mark.parametrize(
    "obstacle",
    ["LOCK TABLE recommendation IN SHARE MODE", "SELECT * FROM publication FOR UPDATE"],
    ids=["before the lists are attached", "before they are shown"],
)
def test_a_night_that_is_killed_while_it_publishes(shop: Shop, obstacle: str) -> None:
    before, shown = shop.lists(), shop.rows("SELECT current_run FROM publication")
    with psycopg.connect(shop.url.replace("+psycopg", "")) as blocker:
        blocker.execute(obstacle.encode())
        process = start(shop, "nightly-recommend")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND application_name = 'recjob' AND datname = current_database()"
        )
        wait_for(lambda: process.poll() is not None or shop.rows(waiting) == [(1,)])
        kill(process)
    killed, job, _ = last_run(shop)
    assert job == "nightly-recommend"
    partition = "SELECT to_regclass(%s)::text"
    name = f"recommendation_run_{killed}"
    assert shop.rows(partition, name) == [(name,)]
    assert shop.rows("SELECT current_run FROM publication") == shown
    assert shop.lists() == before
    night = result(start(shop, "nightly-recommend", "--json"))
    assert shop.rows("SELECT outcome FROM job_run WHERE run_id = %s", killed) == [("killed",)]
    assert shop.rows(partition, name) == [(None,)]
    assert shop.rows("SELECT current_run FROM publication") == [(night["run_id"],)]
    assert shop.lists() == before  # the same as if it had never died
