"""`python cli.py demo --json`: the whole program on the catalog that it draws itself."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recjob.settings import load_settings
from tests.system.commands import ROOT, clean_environment, command_line

pytestmark = pytest.mark.system

LIMIT_SECONDS = float(os.environ.get("DEMO_LIMIT_SECONDS", "360"))
"""On two cores that nobody else uses; `DEMO_LIMIT_SECONDS=inf` on a busy machine."""
LEAD_OVER_POPULARITY = 0.08


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's own folder: the embedded server's OS user has to pass through it."""
    with tempfile.TemporaryDirectory(prefix="recjob-demo-") as folder:
        yield Path(folder)


def test_demo(home: Path) -> None:
    ended = subprocess.run(
        command_line("demo", "--json"),
        cwd=home,
        env=clean_environment(RECJOB_HOME=str(home / "var")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    value = json.loads(ended.stdout)  # one object and nothing else
    assert value["auc_student"] >= value["auc_popularity"] + LEAD_OVER_POPULARITY
    assert value["auc_teacher"] > value["auc_popularity"]
    assert value["auc_random"] == pytest.approx(0.5, abs=0.05)
    drawn = load_settings(ROOT / "examples" / "demo.toml", {}).demo
    # Users with too few training positives for a vector are cold starters too.
    assert value["users"] + value["cold_starters"] == drawn.users + drawn.cold_starters
    assert value["cold_starters"] >= drawn.cold_starters
    assert value["strangers"] == drawn.strangers
    everyone = value["users"] + value["cold_starters"] + value["strangers"]
    assert value["recommended_users"] == everyone
    assert [stage["job"] for stage in value["stages"]] == [
        "draw",
        "import",
        "import newcomers",
        "train-autoencoder",
        "train-teacher",
        "distill",
        "compile",
        "gate",
        "embed",
        "nightly-recommend",
        "evaluate",
        "report",
    ]
    page = Path(value["report"])
    assert page.is_relative_to(home)
    text = page.read_text(encoding="utf-8")
    assert "newcomer-" in text
    assert "stranger-" in text
    assert value["seconds"] <= LIMIT_SECONDS
