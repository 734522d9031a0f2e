"""Missing runs are computed once, by one process, whole or not at all."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recjob.errors import DataError, UserError
from recjob.evaluation.metrics import auc
from recjob.paper import work
from recjob.paper.execute import checkpoint_folder, compute_run, item_features
from recjob.paper.run import METRICS, Run, read_run, write_run
from recjob.paper.shop import Progress
from recjob.paper.study import NotRunError, Study
from recjob.paper.work import compute_missing, has_failed, is_done, unique_runs
from recjob.training.compute import choose_compute
from tests.paper.conftest import silent


def said_nothing(text: str) -> None:
    pass


def in_folder(study: Study, out: Path) -> Study:
    return replace(study, out=out)


def test_a_finished_run_is_read_back(study: Study) -> None:
    run = study.student("fnd-cl")
    spec = study.student_spec("fnd-cl")
    assert (run.key, run.role, run.seed, run.hard, run.frozen) == (
        spec.key,
        "student",
        1,
        False,
        False,
    )
    assert set(run.test) == set(METRICS)
    assert run.notes.keys() >= {"mean_d", "share_d_below_zero", "teacher_gap", "alpha"}
    assert len(run.epochs) == 1
    users = run.per_user("random")
    assert run.per_user_auc.tolist() == users.auc.tolist()
    assert run.test["auc"] == pytest.approx(run.per_user_auc.mean())
    assert users.user_ids == study.student("n-pair").per_user("random").user_ids
    assert run.quality["hard"]["auc"] == pytest.approx(run.per_user("hard").auc.mean())


def test_its_quality_is_that_of_its_model(study: Study) -> None:
    """Scored anew, pair by pair, with the stored model."""
    run, data = study.student("n-pair"), study.data
    stored = run.load()
    settings = study.settings
    features = item_features(
        stored.model, data, settings, choose_compute(settings.compute), settings.student
    )
    users = stored.model.users.weight.detach().numpy()
    lists = study.lists["random"]
    scores: dict[int, list[float]] = {}
    labels: dict[int, list[int]] = {}
    import torch

    for user, outfits in zip(lists.user, lists.items, strict=True):
        row = stored.user_ids.index(data.catalog.user_ids[user])
        for place, outfit in enumerate(outfits):
            items = torch.from_numpy(features[outfit[outfit >= 0]])[None]
            mask = torch.ones(items.shape[:2], dtype=torch.bool)
            with torch.no_grad():
                vector = stored.model.encode_outfits(items, mask)[0].numpy()
            cosine = vector @ users[row] / np.linalg.norm(vector) / np.linalg.norm(users[row])
            scores.setdefault(user, []).append(float(cosine))
            labels.setdefault(user, []).append(int(place == 0))
    expected = [auc(scores[user], labels[user]) for user in sorted(scores)]
    np.testing.assert_allclose(run.per_user_auc, expected, atol=1e-6)


def test_what_is_there_is_not_computed_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object) -> Run:
        raise AssertionError("trained again")

    monkeypatch.setattr(work, "compute_run", computed)
    compute_missing(study, unique_runs([study.student_spec("fnd-cl")]), silent, said_nothing)


def test_a_run_that_fails_is_told_and_so_are_those_after_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recjob.errors import RecjobError

    other = in_folder(study, tmp_path)
    teacher = other.teacher_spec()

    def failing(study: Study, spec: object, progress: Progress) -> Run:
        raise RecjobError("epoch 1, step 2: the loss is nan")

    monkeypatch.setattr(work, "compute_run", failing)
    said: list[str] = []
    student = other.student_spec("fnd")
    compute_missing(other, unique_runs([student]), silent, said.append)
    assert has_failed(other, teacher)
    assert not is_done(other, student)
    with pytest.raises(NotRunError, match="teacher, repeat 1: epoch 1, step 2: the loss is nan"):
        other.run(student)
    assert said == ["teacher, repeat 1: failed (epoch 1, step 2: the loss is nan)"]
    work.forget_failures(other, unique_runs([student]))
    with pytest.raises(NotRunError, match="not computed"):
        other.run(student)


def test_the_users_mistake_ends_everything(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(study: Study, spec: object, progress: Progress) -> Run:
        raise UserError("no weights")

    monkeypatch.setattr(work, "compute_run", failing)
    other = in_folder(study, tmp_path)
    with pytest.raises(UserError, match="no weights"):
        compute_missing(other, [other.teacher_spec()], silent, said_nothing)
    assert not has_failed(other, other.teacher_spec())


def test_a_killed_run_leaves_nothing_half_and_is_computed_again(
    study: Study, tmp_path: Path
) -> None:
    run = replace(study.teacher(), folder=tmp_path / "runs" / "key")

    def killed(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run(run, {}, killed)
    assert read_run(run.folder) is None
    write_run(run, {}, lambda folder: (folder / "whole").touch())
    assert read_run(run.folder) == run
    assert {path.name for path in run.folder.iterdir()} == {"run.json", "whole"}
    assert [path.name for path in run.folder.parent.iterdir()] == ["key"]


def test_a_damaged_run_is_named(study: Study, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: cannot be read .*; delete the folder"):
        read_run(tmp_path)


def test_the_claim_of_a_killed_process_is_free_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = in_folder(study, tmp_path)
    spec = other.autoencoder_spec()
    claim = tmp_path / "runs" / ".claims" / spec.key
    claim.parent.mkdir(parents=True)
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(claim)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    computed: list[str] = []

    def computing(study: Study, spec: object, progress: Progress) -> Run:
        computed.append("run")
        return replace(study_run, folder=other.run_folder(other.autoencoder_spec()))

    study_run = study.run(study.autoencoder_spec())
    monkeypatch.setattr(work, "compute_run", computing)
    waited: list[float] = []

    def killing(seconds: float) -> None:
        assert computed == []
        waited.append(seconds)
        holder.kill()
        holder.communicate()

    monkeypatch.setattr("recjob.paper.work.time.sleep", killing)
    compute_missing(other, [spec], silent, said_nothing)
    assert computed == ["run"]
    assert len(waited) == 1
    with claim.open("a") as file:  # and free again after it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_checkpoints_lie_beside_the_run(study: Study) -> None:
    spec = study.teacher_spec()
    assert checkpoint_folder(study, spec).parent == study.run_folder(spec).parent
    assert not checkpoint_folder(study, spec).exists()


def test_a_run_is_the_same_wherever_it_is_computed(study: Study, tmp_path: Path) -> None:
    other = in_folder(study, tmp_path)
    spec = other.student_spec("n-pair")
    run = compute_run(other, spec, lambda done, total, note: None)
    assert run.quality == study.run(spec).quality


def test_a_killed_training_goes_on_from_its_checkpoint(study: Study, tmp_path: Path) -> None:
    settings = study.settings.model_copy(
        update={
            "student": study.settings.student.model_copy(update={"checkpoint_minutes": 1e-9}),
        }
    )
    other = replace(study, out=tmp_path, settings=settings)
    spec = other.student_spec("n-pair")
    steps: list[int] = []

    @contextmanager
    def killing(label: str) -> Iterator[Progress]:
        def told(done: int, total: int, note: str) -> None:
            steps.append(done)
            if done == 3:
                raise KeyboardInterrupt

        yield told

    with pytest.raises(KeyboardInterrupt):
        compute_missing(other, [spec], killing, said_nothing)
    assert not is_done(other, spec)
    assert checkpoint_folder(other, spec).is_dir()
    steps.clear()

    @contextmanager
    def counting(label: str) -> Iterator[Progress]:
        yield lambda done, total, note: steps.append(done)

    compute_missing(other, [spec], counting, said_nothing)
    assert min(steps) > 1
    assert not checkpoint_folder(other, spec).exists()
    assert other.run(spec).quality == study.run(spec).quality
