"""The whole way once: what each job left in the registry, the ledger and the folders."""

from __future__ import annotations

import hashlib
import re

import pytest

from recjob.jobs.import_tables import ImportResult
from recjob.jobs.pipeline import STEPS, Finished, pipeline_result
from tests.fixtures_shop import K, Shop


def test_imports(trained_shop: Shop) -> None:
    first = trained_shop.results["import shop"]
    second = trained_shop.results["import newcomers"]
    assert isinstance(first, ImportResult)
    assert isinstance(second, ImportResult)
    assert (first.items.added, first.users.added, first.pictures_decoded) == (60, 14, 60)
    assert (second.items.added, second.users.added, second.pictures_decoded) == (0, 3, 0)
    assert not first.quarantined
    [(items, outfits, users)] = trained_shop.rows(
        "SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM outfit), "
        "(SELECT count(*) FROM app_user)"
    )
    assert (items, users) == (60, 17)
    assert outfits == first.outfits.added + second.outfits.added
    liked = sum(len(outfits) for outfits in trained_shop.liked().values())
    assert liked == first.interactions.added + second.interactions.added


def test_one_active_model_of_each_role(trained_shop: Shop) -> None:
    rows = trained_shop.rows(
        "SELECT model.role, model.status, parent.role, model.seed FROM model "
        "LEFT JOIN model AS parent ON parent.model_key = model.parent ORDER BY 1"
    )
    assert rows == [
        ("autoencoder", "active", None, 1),
        ("student", "active", "teacher", 1),
        ("teacher", "active", None, 1),
    ]


def test_the_students_record(trained_shop: Shop) -> None:
    [(metrics, section)] = trained_shop.rows(
        "SELECT metrics, settings FROM model WHERE role = 'student'"
    )
    assert metrics["teacher_gap"] > 0
    assert metrics["alpha"] == pytest.approx(1 / metrics["teacher_gap"])
    assert 0 <= metrics["share_d_below_zero"] <= 1
    assert metrics["mean_d"] <= 3
    assert 0 <= metrics["validation"]["auc"] <= 1
    assert len(metrics["epochs"]) == section["epochs"] == 1


def test_engines_are_registered_and_whole(trained_shop: Shop) -> None:
    rows = trained_shop.rows("SELECT kind, target, file, sha256 FROM engine ORDER BY kind, file")
    folder = trained_shop.model_folder("student")
    for _, _, file, sha256 in rows:
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == sha256
    engines = [(target, file) for kind, target, file, _ in rows if kind == "tensorrt_rtx"]
    assert [target for target, _ in engines] == ["sm89", "sm89"]
    assert [file.split("-")[0] for _, file in engines] == [
        "engines/item_encoder",
        "engines/set_encoder",
    ]
    assert all((folder / file).stat().st_size > 2**20 for _, file in engines)
    assert {target for kind, target, _, _ in rows if kind == "onnx"} == {
        "item_encoder",
        "set_encoder",
    }


def test_the_ledger_tells_all_of_it(trained_shop: Shop) -> None:
    rows = trained_shop.rows(
        "SELECT job, outcome, parameters, stages, ended >= started FROM job_run ORDER BY run_id"
    )
    assert [row[0] for row in rows] == ["import", "import", *(job for job, _ in STEPS)]
    assert all(row[1] == "done" and row[4] for row in rows)
    stages = {row[0]: [stage["name"] for stage in row[3]] for row in rows}
    assert stages["distill"][-2:] == ["train", "save"]
    assert all(stage["peak_memory_bytes"] > 0 for row in rows for stage in row[3])
    parameters = {row[0]: row[2] for row in rows}
    students = trained_shop.rows("SELECT model_id FROM model WHERE role = 'student'")
    night = {"model": students[0][0], "seed": 1, "k": K, "users": 17, "shards": 1, "mixes": 0}
    assert night.items() <= parameters["nightly-recommend"].items()
    assert re.fullmatch("[0-9a-f]{64}", parameters["nightly-recommend"]["fingerprint"])
    assert parameters["import"]["folder"] == str(trained_shop.folder / "newcomers")


def test_the_summary(trained_shop: Shop) -> None:
    steps = [Finished(job, trained_shop.results[job]) for job, _ in STEPS]
    summary = pipeline_result(steps)
    assert (summary.users, summary.cold_starters, summary.strangers) == (12, 3, 2)
    assert summary.recommended_users == 17
    assert summary.seconds == pytest.approx(sum(stage.seconds for stage in summary.stages))
    assert [stage.job for stage in summary.stages] == [job for job, _ in STEPS]
    assert summary.total.for_people[0] == "all"
    assert all(0 <= auc <= 1 for auc in (summary.auc_student, summary.auc_teacher))


def test_nothing_unfinished_is_left(trained_shop: Shop) -> None:
    unfinished = trained_shop.settings.home / "artifacts" / ".unfinished"
    assert [path.name for path in unfinished.iterdir()] == ["lock"]
    assert not list(trained_shop.settings.home.rglob("*.writing"))
