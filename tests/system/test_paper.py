"""`python cli.py paper all`: killed on its way, started again, and nothing computed twice."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.paper.catalogue import MODULES
from recjob.settings import load_settings
from tests.system.commands import clean_environment, command_line, wait_for

pytestmark = pytest.mark.system

VARIABLES = {
    "RECJOB_COMPUTE__DEVICE": "cpu",
    "RECJOB_IMAGES__SIZE": "64",
    "RECJOB_DEMO__ITEMS": "80",
    "RECJOB_DEMO__USERS": "8",
    "RECJOB_DEMO__OUTFITS_PER_USER": "16",
    "RECJOB_DEMO__IMAGE_SIZE": "64",
    "RECJOB_AUTOENCODER__EPOCHS": "1",
    "RECJOB_TEACHER__SIZE": "xs",
    "RECJOB_TEACHER__WEIGHTS": "none",
    "RECJOB_STUDENT__WEIGHTS": "none",
    "RECJOB_PAPER__REPEATS": "2",
    "RECJOB_PAPER__ALPHAS": "0.5,1.0",
    "RECJOB_PAPER__SIZES": "xs",
    "RECJOB_PAPER__BATCH_SIZES": "16,32",
    "RECJOB_PAPER__TIMING_REPEATS": "2",
    "RECJOB_PAPER__TABLE4_FREEZE": "true",
    "RECJOB_PAPER__FIGURES_FREEZE": "true",
    "OMP_NUM_THREADS": "1",
}
FIGURES = [name for name in MODULES if name.startswith("figure")]


def test_killed_and_started_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    variables = clean_environment(**VARIABLES)
    settings = load_settings(None, variables)
    write_demo(tmp_path / "shop", tmp_path / "shop-cold", settings.demo, settings.seed)
    command = command_line("paper", "all", "--data", "shop", "--epochs", "1", "--json")

    def run() -> dict[str, Any]:
        ended = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        value = json.loads(ended.stdout)
        assert isinstance(value, dict)
        return value

    out = tmp_path / "results" / "shop"
    runs = out / "runs"
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as killed:
        wait_for(lambda: runs.is_dir() and any(runs.glob("[!.]*/run.json")))
        killed.send_signal(signal.SIGKILL)
    there = len(list(runs.glob("[!.]*/run.json")))
    first = run()
    assert first["runs_kept"] >= there >= 1
    assert (first["runs_failed"], first["kept"][1:]) == ([], [])
    assert {*first["written"], *first["kept"]} == MODULES.keys()
    assert not list(runs.glob(".new-*")) + list(runs.glob(".unfinished-*"))
    for name in MODULES:
        value = json.loads((out / f"{name}.json").read_text())
        rows = list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
        assert len(rows) == len(value["rows"]) > 0
        assert "not run: " not in (out / f"{name}.md").read_text()
        assert f"[md]({name}.md)" in (out / "index.md").read_text()
    for name in FIGURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "FND-CL (frozen features)" in (out / "table4.md").read_text()
    assert "FND-CL (frozen features)" not in (out / "table2.md").read_text()
    assert not (tmp_path / "var").exists()  # no database, and nothing else at home
    again = run()
    assert (again["runs_computed"], again["written"]) == (0, [])
    assert set(again["kept"]) == MODULES.keys()
