"""Training from a folder to a folder: the same models as on the database."""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.fingerprint import data_fingerprint
from recjob.catalog.hashing import file_sha256
from recjob.catalog.images import PackedImages
from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.split import split_parts, warm_users
from recjob.catalog.tables import read_folder
from recjob.errors import DataError, NotFoundError, UserError
from recjob.inference.model_files import load_autoencoder, load_recommender
from recjob.jobs.distill import distill
from recjob.jobs.import_tables import import_tables
from recjob.jobs.model_record import ModelRecord, new_record, read_record
from recjob.jobs.offline import FolderSite, run_offline
from recjob.jobs.runner import run_job
from recjob.jobs.train_autoencoder import AutoencoderResult, train_autoencoder
from recjob.jobs.train_teacher import TrainedResult, train_teacher
from recjob.jobs.training_site import training_data
from recjob.jobs.workspace import on_database
from recjob.monitoring.memory import MemoryMonitor
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.database import Database
from recjob.training.compute import choose_compute
from recjob.training.teacher_scores import TeacherScores, freeze_teacher
from tests.command_line import Run
from tests.jobs.conftest import Trained

WEIGHTS = "model.safetensors"


def test_results(offline: Trained) -> None:
    autoencoder = AutoencoderResult.model_validate(offline.results["autoencoder"])
    assert autoencoder.epochs == 1
    assert 0 < autoencoder.last_error == autoencoder.first_error
    for role in ("teacher", "student"):
        result = TrainedResult.model_validate(offline.results[role])
        assert result.model.startswith(role)
        assert result.users == len(load_recommender(offline.out / role).user_ids) > 4
        assert result.epochs == 1
        assert result.validation_auc is not None
        names = [stage.name for stage in result.stages]
        assert names[0] == "read"
        assert names[-2:] == ["train", "save"]
        assert all(stage.peak_memory_bytes > 0 for stage in result.stages)
        assert result.seconds >= sum(stage.seconds for stage in result.stages)
    assert offline.results["student"]["notes"]["alpha"] > 0


def test_what_is_left_in_the_folder(offline: Trained) -> None:
    found = {path.relative_to(offline.out).as_posix() for path in offline.out.rglob("*")}
    recommender = {WEIGHTS, "users.safetensors", "users.json", "model.json", "training.json"}
    files = {
        "autoencoder": {WEIGHTS, "model.json", "training.json"},
        "teacher": recommender,
        "student": recommender,
    }
    expected = {f"{role}/{name}" for role, names in files.items() for name in names} | set(files)
    images = {"images", "images/64", "images/64/index.txt", "images/64/lock", "images/64/pixels.u8"}
    assert found == expected | images | {".lock"}


def test_records(offline: Trained) -> None:
    tables = read_folder(offline.data, offline.settings.catalog)
    pictures = PackedImages(offline.out / "images" / "64", 64)
    images = tables.items["image"].to_pylist()
    catalog = to_catalog(
        tables, pictures.add(FolderPictures(offline.data), images, offline.settings.images).hashes
    )
    parts = split_parts(catalog, offline.settings.split)
    users = warm_users(catalog, parts, offline.settings.users)
    roles: tuple[Role, ...] = ("autoencoder", "teacher", "student")
    for role in roles:
        record = read_record(offline.out / role)
        assert record.role == role
        assert record.model_id == offline.results[role]["model"]
        section = getattr(offline.settings, role).model_dump(mode="json")
        assert section.items() <= record.settings.items()
        assert record.data_fingerprint == data_fingerprint(catalog)
        assert record.seed == 1
        if role != "autoencoder":
            stored = load_recommender(offline.out / role)
            assert stored.user_ids == tuple(catalog.user_ids[user] for user in users)
            assert stored.image_size == 64
            auc = offline.results[role]["validation_auc"]
            assert record.metrics["validation"]["auc"] == auc
            assert len(record.metrics["epochs"]) == 1
    # Its trunk began as the autoencoder; the student's replacements were drawn by the same.
    autoencoder = offline.results["autoencoder"]["model"]
    assert read_record(offline.out / "teacher").parent == autoencoder
    assert read_record(offline.out / "student").metrics["autoencoder"] == autoencoder
    assert read_record(offline.out / "student").parent == offline.results["teacher"]["model"]
    assert load_autoencoder(offline.out / "autoencoder").latent_dim == 16


def test_the_database_gives_the_same_models(
    offline: Trained, database: Database, database_settings: Settings
) -> None:
    """To the last bit: where the data come from makes no difference."""
    settings = offline.settings.model_copy(
        update={"home": database_settings.home, "database_url": database_settings.database_url}
    )
    run_job("import", database, settings, partial(import_tables, folder=offline.data))
    models = {
        "autoencoder": run_job(
            "train-autoencoder", database, settings, on_database(train_autoencoder)
        ).model,
        "teacher": run_job("train-teacher", database, settings, on_database(train_teacher)).model,
    }
    for role, model_id in models.items():
        folder = settings.home / "artifacts" / "models" / model_id
        assert file_sha256(folder / WEIGHTS) == file_sha256(offline.out / role / WEIGHTS)
        own, theirs = read_record(folder), read_record(offline.out / role)
        same: dict[str, Any] = {"model_id": "", "metrics": {}, "parent": None}
        assert own.model_copy(update=same) == theirs.model_copy(update=same)


@pytest.fixture
def site(offline: Trained, tmp_path: Path) -> FolderSite:
    """A place with the teacher in it, whose models may change."""
    shutil.copytree(offline.out / "teacher", tmp_path / "out" / "teacher")
    return FolderSite(offline.data, tmp_path / "out", offline.settings, MemoryMonitor())


def a_record(offline: Trained, role: Role) -> ModelRecord:
    record = read_record(offline.out / role)
    return record.model_copy(update={"model_id": f"{role}-new"})


def test_a_new_model_takes_the_place_of_the_old(offline: Trained, site: FolderSite) -> None:
    out = site.settings.home
    (out / ".teacher-unfinished").mkdir()  # what a killed training left
    (out / ".teacher-unfinished" / "half").write_text("")
    site.save(a_record(offline, "teacher"), lambda folder: (folder / "new").touch())
    assert {path.name for path in (out / "teacher").iterdir()} == {"new", "training.json"}
    assert read_record(out / "teacher").model_id == "teacher-new"
    assert {path.name for path in out.iterdir()} == {"teacher", ".lock"}


def test_a_failed_save_leaves_the_old_model(offline: Trained, site: FolderSite) -> None:
    out = site.settings.home
    before = file_sha256(out / "teacher" / WEIGHTS)

    def fail(folder: Path) -> None:
        (folder / WEIGHTS).write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.save(a_record(offline, "teacher"), fail)
    assert file_sha256(out / "teacher" / WEIGHTS) == before
    assert {path.name for path in out.iterdir()} == {"teacher", ".lock"}
    assert site.recommender("teacher")[0] == offline.results["teacher"]["model"]


def test_a_teacher_of_other_pictures_is_refused(offline: Trained, site: FolderSite) -> None:
    images = offline.settings.images.model_copy(update={"size": 96})
    other = offline.settings.model_copy(update={"images": images})
    elsewhere = FolderSite(offline.data, site.settings.home, other, MemoryMonitor())
    with pytest.raises(DataError, match=r"pictures of 64 pixels, the settings say .* 96"):
        elsewhere.recommender("teacher")


@pytest.mark.system
def test_the_teacher_may_see_larger_pictures_than_the_student(
    offline: Trained, tmp_path: Path
) -> None:
    """What the student is told comes from the teacher's own pictures of the items."""
    alone = {"weights": "none", "image_size": 96}, {"weights": "none", "contrastive_weight": 0.0}
    teacher = offline.settings.teacher.model_copy(update=alone[0])
    student = offline.settings.student.model_copy(update=alone[1])
    settings = offline.settings.model_copy(update={"teacher": teacher, "student": student})
    run_offline(train_teacher, offline.data, tmp_path, settings)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"64", "96"}
    result = run_offline(distill, offline.data, tmp_path, settings)
    stored = load_recommender(tmp_path / "teacher")
    assert (stored.image_size, load_recommender(tmp_path / "student").image_size) == (96, 64)
    with MemoryMonitor() as monitor:
        site = FolderSite(offline.data, tmp_path, settings, monitor)
        gaps = {}
        for size in (64, 96):
            data = training_data(site.read_shop(size), settings)
            compute = choose_compute(settings.compute)
            frozen = freeze_teacher(stored.model, stored.user_ids, data, settings, compute)
            gaps[size] = TeacherScores(data, frozen, compute, settings.seed).gap
    assert result.notes["teacher_gap"] == pytest.approx(gaps[96], rel=1e-6)
    assert gaps[64] != pytest.approx(gaps[96], rel=1e-3)
    with pytest.raises(DataError, match=r"pictures of 96 pixels, the .* images.size = 64"):
        run_offline(distill, offline.data, tmp_path, offline.settings)


def test_a_damaged_record(offline: Trained, site: FolderSite) -> None:
    path = site.settings.home / "teacher" / "training.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"role": "chef"}))
    with pytest.raises(DataError, match=r"training\.json: role: .*train the model again"):
        site.recommender("teacher")
    path.write_text("{")
    with pytest.raises(DataError, match=r"training\.json: .*Invalid JSON"):
        site.recommender("teacher")
    path.unlink()
    with pytest.raises(DataError, match=r"training\.json: missing"):
        site.recommender("teacher")


def test_bad_pictures_are_named_and_left_out(
    offline: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(offline.data, data)
    first = sorted(path for path in data.rglob("*") if path.suffix in (".jpg", ".png"))[0]
    first.write_text("no picture")
    site = FolderSite(data, tmp_path / "out", offline.settings, MemoryMonitor())
    with caplog.at_level(logging.WARNING):
        shop = site.read_shop()
    assert int((~shop.catalog.item_usable).sum()) == 1
    assert int((shop.picture_rows < 0).sum()) == 1
    [line] = caplog.messages
    assert str(first) in line


def test_distill_needs_what_it_learns_from(offline: Trained, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        run_offline(distill, offline.data, tmp_path, offline.settings)
    assert str(caught.value) == (
        f"{tmp_path / 'teacher'}: there is no teacher yet; run `python cli.py train-teacher "
        f"--data {offline.data} --out {tmp_path}` first"
    )
    shutil.copytree(offline.out / "teacher", tmp_path / "teacher")
    with pytest.raises(NotFoundError, match=r"python cli\.py train-autoencoder --data"):
        run_offline(distill, offline.data, tmp_path, offline.settings)


def test_a_folder_that_needs_the_database(offline: Trained, tmp_path: Path) -> None:
    """Outfits of items that only a database knows."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("outfits", "interactions"):
        shutil.copy(offline.data / f"{name}.csv", data)
    with pytest.raises(DataError, match="unknown item"):
        run_offline(train_teacher, data, tmp_path / "out", offline.settings)
    with pytest.raises(DataError, match="no such folder"):
        run_offline(train_teacher, tmp_path / "nowhere", tmp_path / "out", offline.settings)


def test_an_out_that_cannot_be_written_to(offline: Trained, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        with pytest.raises(UserError, match=r"cannot be written to .*; choose another"):
            run_offline(train_teacher, offline.data, out, offline.settings)


@pytest.mark.parametrize("command_name", ["train-autoencoder", "train-teacher", "distill"])
@pytest.mark.parametrize(("given", "missing"), [("--data", "--out"), ("--out", "--data")])
def test_one_folder_is_not_enough(
    command: Run, command_name: str, given: str, missing: str
) -> None:
    message = command(command_name, given, "somewhere").error(2)
    assert message == f"{given} needs {missing} beside it: together they train without a database"


def test_a_new_record_has_an_id_of_its_own(offline: Trained) -> None:
    catalog = to_catalog(read_folder(offline.data, offline.settings.catalog), ["0" * 64] * 60)
    made = [new_record("student", catalog, offline.settings, {}, "teacher-1") for _ in range(2)]
    assert made[0].model_id != made[1].model_id
    assert made[0].model_copy(update={"model_id": made[1].model_id}) == made[1]
    assert (made[0].parent, made[0].seed) == ("teacher-1", offline.settings.seed)
    split = offline.settings.split.model_dump(mode="json")
    assert (made[0].settings["split"], made[0].settings["epochs"]) == (split, 1)
