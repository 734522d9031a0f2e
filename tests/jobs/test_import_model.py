"""`models import`: what was trained elsewhere is registered once and in use at once."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from recjob.catalog.hashing import file_sha256
from recjob.errors import DataError
from recjob.inference.model_files import load_recommender
from recjob.jobs.import_model import ImportedModel, import_model
from recjob.jobs.model_record import read_record
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import load_recommender_of
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.database import Database
from recjob.store.models import ModelRow, activate, list_models
from tests.jobs.conftest import Trained
from tests.store.registry import register_model


class Importer:
    """A database and the settings that go with the models."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings

    def __call__(self, folder: Path) -> ImportedModel:
        body = partial(import_model, folder=folder)
        return run_job("models-import", self.database, self.settings, body)

    def models(self) -> dict[str, ModelRow]:
        with self.database.connect() as connection:
            return {row.model_id: row for row in list_models(connection)}

    def files(self, model_id: str) -> Path:
        return self.settings.home / "artifacts" / "models" / model_id


@pytest.fixture
def importer(offline: Trained, database: Database, database_settings: Settings) -> Importer:
    update = {"home": database_settings.home, "database_url": database_settings.database_url}
    return Importer(database, offline.settings.model_copy(update=update))


STATUS: dict[Role, str] = {"autoencoder": "active", "teacher": "active", "student": "candidate"}


def test_three_models(offline: Trained, importer: Importer) -> None:
    with importer.database.begin() as connection:
        register_model(connection, "teacher-before", "teacher")
    roles: tuple[Role, ...] = ("autoencoder", "teacher", "student")
    for role in roles:
        result = importer(offline.out / role)
        record = read_record(offline.out / role)
        assert (result.model, result.role, result.new) == (record.model_id, role, True)
        row = importer.models()[record.model_id]
        assert (row.status, row.role, row.parent) == (STATUS[role], role, record.parent)
        assert result.status == STATUS[role]
        assert ("cli.py gate" in result.next) == (role == "student")
        assert (row.settings, row.metrics) == (record.settings, record.metrics)
        assert row.data_fingerprint == record.data_fingerprint
        assert (row.seed, row.code_version) == (1, record.code_version)
        for path in (offline.out / role).iterdir():
            assert file_sha256(importer.files(row.model_id) / path.name) == file_sha256(path)
    assert importer.models()["teacher-before"].status == "candidate"
    assert len(importer.models()) == 4


def test_the_imported_student_is_whole(offline: Trained, importer: Importer) -> None:
    importer(offline.out / "autoencoder")
    importer(offline.out / "teacher")
    importer(offline.out / "student")

    def body(context: JobContext) -> JobResult:
        row = importer.models()[str(offline.results["student"]["model"])]
        stored = load_recommender_of(context, row)
        assert row.parent == offline.results["teacher"]["model"]
        teacher = importer.models()[str(row.parent)]
        # Its trunk began as the autoencoder; the student drew its replacements by it.
        assert teacher.parent == row.metrics["autoencoder"]
        assert teacher.parent == offline.results["autoencoder"]["model"]
        own = load_recommender(offline.out / "student")
        assert stored.user_ids == own.user_ids
        states = stored.model.state_dict(), own.model.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        return JobResult()

    run_job("evaluate", importer.database, importer.settings, body)


def test_the_same_folder_twice_is_one_model(offline: Trained, importer: Importer) -> None:
    importer(offline.out / "teacher")
    with importer.database.begin() as connection:
        register_model(connection, "teacher-later", "teacher")
    before = importer.models()
    again = importer(offline.out / "teacher")
    assert not again.new
    assert importer.models() == before


def test_a_student_that_is_there_keeps_its_status(offline: Trained, importer: Importer) -> None:
    first = importer(offline.out / "student")
    assert importer(offline.out / "student").status == "candidate"
    with importer.database.begin() as connection:
        activate(connection, first.model)
        register_model(connection, "later")
        activate(connection, "later")
    again = importer(offline.out / "student")
    assert (again.new, again.status) == (False, "retired")
    assert f"models promote {first.model}" in again.next
    assert importer.models()["later"].status == "active"


def test_a_student_may_come_without_its_teacher(offline: Trained, importer: Importer) -> None:
    result = importer(offline.out / "student")
    assert result.parent is None
    assert importer.models()[result.model].parent is None


def test_a_model_made_on_another_database(
    offline: Trained, importer: Importer, tmp_path: Path
) -> None:
    """The artifact folder of a model has all that an import needs, and more that it leaves."""
    folder = tmp_path / "theirs"
    shutil.copytree(offline.out / "student", folder)
    (folder / "engines").mkdir()
    (folder / "engines" / "sm89.engine").write_text("not ours")
    (folder / "manifest.json").write_text("{}")
    result = importer(folder)
    names = {path.name for path in importer.files(result.model).iterdir()}
    assert "engines" not in names
    assert json.loads((importer.files(result.model) / "manifest.json").read_text())


def test_what_a_killed_import_left_is_replaced(offline: Trained, importer: Importer) -> None:
    left = importer.files(read_record(offline.out / "teacher").model_id)
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half")
    result = importer(offline.out / "teacher")
    assert result.new
    assert file_sha256(left / "model.safetensors") == file_sha256(
        offline.out / "teacher" / "model.safetensors"
    )


@pytest.fixture
def copy(offline: Trained, tmp_path: Path) -> Path:
    """A teacher's folder to damage."""
    return Path(shutil.copytree(offline.out / "teacher", tmp_path / "copy"))


@pytest.mark.parametrize(
    "name",
    ["training.json", "model.json", "users.json", "model.safetensors", "users.safetensors"],
)
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_damaged_folders(importer: Importer, copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        importer(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not importer.models()


def test_folders_that_are_no_model(importer: Importer, offline: Trained, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path, offline.out):
        with pytest.raises(DataError, match="name the folder of one trained model"):
            importer(folder)


def test_another_model_under_the_same_id(importer: Importer, copy: Path) -> None:
    importer(copy)
    record = read_record(copy)
    changed = record.model_copy(update={"seed": 5})
    (copy / "training.json").write_text(changed.model_dump_json())
    with pytest.raises(DataError, match="differs from that of the registered model"):
        importer(copy)
    assert importer.models()[record.model_id].seed == 1


def test_pictures_of_another_size(importer: Importer, offline: Trained) -> None:
    images = importer.settings.images.model_copy(update={"size": 96})
    importer.settings = importer.settings.model_copy(update={"images": images})
    with pytest.raises(DataError, match=r"trained on pictures of 64 pixels, the settings say"):
        importer(offline.out / "student")
    assert not importer.models()
