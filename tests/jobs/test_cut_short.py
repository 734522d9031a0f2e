"""Trainings that are stopped go on; several processes leave one model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recjob.catalog.hashing import file_sha256
from recjob.errors import UserError
from recjob.inference.model_files import load_recommender
from recjob.jobs.offline import run_offline
from recjob.jobs.train_autoencoder import train_autoencoder
from recjob.jobs.train_teacher import train_teacher
from recjob.jobs.training_site import checkpoint_folder
from recjob.jobs.workspace import on_database
from tests.jobs.conftest import ROOT, Trained
from tests.system.commands import clean_environment

WEIGHTS = "model.safetensors"


@pytest.fixture
def out(offline: Trained, tmp_path: Path) -> Path:
    """A place with the autoencoder in it, where a teacher can be trained."""
    for name in ("autoencoder", "images"):
        shutil.copytree(offline.out / name, tmp_path / "out" / name)
    return tmp_path / "out"


def in_training() -> bool:
    """True while a recipe's steps are under way in this process."""
    return any(thread.name == "prefetch" for thread in threading.enumerate())


def test_sigterm_saves_the_state_and_the_training_goes_on(offline: Trained, out: Path) -> None:
    def terminate() -> None:
        deadline = time.monotonic() + 60
        while not in_training() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_offline(train_teacher, offline.data, out, offline.settings)
    thread.join()
    home = offline.settings.model_copy(update={"home": out})
    checkpoints = checkpoint_folder(home, "teacher")
    assert checkpoints.path == out / "checkpoints" / "teacher"
    assert checkpoints.read()
    assert not (out / "teacher").exists()
    run_offline(train_teacher, offline.data, out, offline.settings)
    assert not checkpoints.path.exists()
    assert file_sha256(out / "teacher" / WEIGHTS) == file_sha256(offline.out / "teacher" / WEIGHTS)


def test_what_torchrun_cannot_do(
    offline: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun trains on folders; give --data and --out"):
        on_database(train_teacher)
    with pytest.raises(UserError, match="train-autoencoder runs in one process"):
        train_autoencoder(None)  # type: ignore[arg-type]


@pytest.mark.system
def test_torchrun_leaves_one_model(offline: Trained, out: Path) -> None:
    """Two processes on the CPU; one packs, saves and answers."""
    file = offline.data.parent / "settings.toml"
    shutil.rmtree(out / "images")
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = ["--nproc-per-node", "2", str(ROOT / "cli.py"), "train-teacher", "--json"]
    folders = ["--data", offline.data, "--out", out, "--settings", file]
    ended = subprocess.run(
        [*program, *command, *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(OMP_NUM_THREADS="1"),
    )
    assert ended.returncode == 0, ended.stderr
    [line] = ended.stdout.splitlines()
    result = json.loads(line)
    assert result["epochs"] == 1
    assert result["validation_auc"] > 0
    assert len(load_recommender(out / "teacher").user_ids) == result["users"]
    assert not (out / "checkpoints").exists()
