"""Whether a training is worth it: new data, other settings, another parent."""

from __future__ import annotations

import csv
import shutil
from functools import partial
from pathlib import Path

import pytest

from recjob.jobs.import_tables import import_tables
from recjob.jobs.retraining import why_not
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.data_growth import data_change
from recjob.store.database import Database, open_database
from recjob.store.models import MAKING_COMMANDS, activate
from tests.command_line import Run
from tests.fixtures_shop import Shop
from tests.jobs.registry import add_student
from tests.store.registry import register_model

ROLES: tuple[Role, ...] = ("autoencoder", "teacher", "student")


def changes(shop: Shop) -> dict[Role, float | None]:
    with open_database(shop.settings) as database, database.connect() as connection:
        return {role: data_change(connection, role) for role in ROLES}


def reason(shop: Shop, role: Role, **sections: object) -> str | None:
    settings = shop.settings.model_copy(update=sections)
    with open_database(shop.settings) as database, database.connect() as connection:
        return why_not(connection, role, settings)


def import_likes(shop: Shop, folder: Path, count: int) -> None:
    """Import `count` new interactions, and one new item."""
    folder.mkdir()
    shutil.copytree(shop.folder / "shop" / "images", folder / "images")
    with (shop.folder / "shop" / "items.csv").open() as file:
        heading, *rows = list(csv.reader(file))
    first = dict(zip(heading, rows[0], strict=True)) | {"item_id": "brand-new"}
    _write(folder / "items.csv", [heading, [first[name] for name in heading]])
    pairs = shop.rows(
        "SELECT user_id, outfit_id FROM app_user, outfit WHERE NOT EXISTS (SELECT FROM interaction "
        "WHERE interaction.user_key = app_user.user_key "
        "AND interaction.outfit_key = outfit.outfit_key) ORDER BY 1, 2 LIMIT %s",
        count,
    )
    assert len(pairs) == count
    _write(folder / "interactions.csv", [["user_id", "outfit_id"], *map(list, pairs)])
    shop.run("import", partial(import_tables, folder=folder))


def _write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_without_a_model_it_is_always_worth_it(
    database: Database, database_settings: Settings
) -> None:
    with database.connect() as connection:
        for role in ROLES:
            assert data_change(connection, role) is None
            assert why_not(connection, role, database_settings) is None


def test_new_data(shop: Shop, tmp_path: Path, command: Run) -> None:
    assert changes(shop) == {"autoencoder": 0.0, "teacher": 0.0, "student": 0.0}
    [(student, before)] = shop.rows(
        "SELECT model_id, (SELECT count(*) FROM interaction) FROM model WHERE role = 'student'"
    )
    options = {"folder": shop.folder, "variables": shop.variables}
    message = (
        f"0.00% of the interactions are new since {student} was trained, less than "
        "retraining.min_change (1.00%)"
    )
    for role, job in MAKING_COMMANDS.items():
        ended = command(job, "--if-changed", **options)
        assert ended.code == 0, ended.err
        assert ended.out.startswith("skipped: 0.00% of the ")
        if role == "student":
            assert ended.out == f"skipped: {message}\n"
    value = command("distill", "--if-changed", "--json", **options).json
    assert value["skipped"] == message
    [(outcome, error)] = shop.rows(
        "SELECT outcome, error FROM job_run ORDER BY run_id DESC LIMIT 1"
    )
    assert (outcome, error) == ("skipped", message)
    assert shop.rows("SELECT count(*) FROM model") == [(3,)]

    import_likes(shop, tmp_path / "more", 7)
    share = 7 / (before + 7)
    assert changes(shop) == {
        "autoencoder": pytest.approx(1 / 61),
        "teacher": pytest.approx(share),
        "student": pytest.approx(share),
    }
    retraining = shop.settings.retraining
    enough, too_little = (
        retraining.model_copy(update={"min_change": limit}) for limit in (share * 0.9, share * 1.1)
    )
    assert reason(shop, "teacher", retraining=enough) is None
    assert "are new since teacher-" in (reason(shop, "teacher", retraining=too_little) or "")
    # A newer student that nobody uses yet has learned from them.
    add_student(shop, "student-new", compiled=False)
    assert changes(shop)["student"] == 0
    assert changes(shop)["teacher"] == pytest.approx(share)


def test_other_settings(shop: Shop) -> None:
    settings = shop.settings
    assert reason(shop, "student") is not None
    student = settings.student.model_copy(update={"epochs": 2})
    assert reason(shop, "student", student=student) is None
    assert reason(shop, "teacher", student=student) is not None
    split = settings.split.model_copy(update={"key": "another"})
    assert reason(shop, "teacher", split=split) is None
    assert reason(shop, "autoencoder", split=split) is not None
    # What does not change the model.
    student = settings.student.model_copy(update={"checkpoint_minutes": 1.0, "prefetch": 0})
    assert reason(shop, "student", student=student) is not None
    # What the record of an older version does not tell.
    shop.rows("UPDATE model SET settings = settings - 'split'")
    assert reason(shop, "teacher", split=split) is not None


def test_another_parent(shop: Shop) -> None:
    with open_database(shop.settings) as database, database.begin() as connection:
        register_model(connection, "teacher-2", "teacher")
        activate(connection, "teacher-2")
    assert reason(shop, "student") is None
    # An imported student whose teacher nobody knows: only a younger teacher is another one.
    shop.rows("UPDATE model SET parent = NULL WHERE role = 'student'")
    assert reason(shop, "student") is None
    shop.rows("UPDATE model SET created = created - interval '1 day' WHERE role = 'teacher'")
    assert reason(shop, "student") is not None
    # A teacher begins as the autoencoder in use only if its settings say so.
    with open_database(shop.settings) as database, database.begin() as connection:
        register_model(connection, "autoencoder-2", "autoencoder")
        activate(connection, "autoencoder-2")
    shop.rows(
        "UPDATE model SET settings = '{}', "
        "created = now() + (role = 'autoencoder')::integer * interval '1 hour'"
    )
    assert reason(shop, "teacher") is not None
    teacher = shop.settings.teacher.model_copy(update={"weights": "autoencoder"})
    assert reason(shop, "teacher", teacher=teacher) is None


def test_it_needs_the_registry(command: Run) -> None:
    message = command("distill", "--if-changed", "--data", "a", "--out", "b").error(2)
    assert message == "--if-changed asks the registry; leave it out with --data and --out"
