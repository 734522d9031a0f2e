"""The registry's commands: who is in use, who was, and where each came from."""

from __future__ import annotations

from functools import partial

import pytest

from recjob.errors import NotFoundError, RefusedError, UserError
from recjob.jobs.embed import embed
from recjob.jobs.gate import gate
from recjob.jobs.model_registry import (
    StatusChange,
    model_details,
    models,
    promote,
    retire_model,
    roll_back,
)
from recjob.settings import Settings
from recjob.store.database import Database
from tests.command_line import Run
from tests.fixtures_shop import Shop
from tests.jobs.registry import add_student, opposite


def active(shop: Shop) -> str:
    return shop.model_folder("student").name


def run_promote(shop: Shop, model_id: str, force: bool = False) -> StatusChange:
    return shop.run("models-promote", partial(promote, model_id=model_id, force=force))


def test_list(trained_shop: Shop) -> None:
    rows = models(trained_shop.settings)
    assert [row.role for row in rows] == ["student", "teacher", "autoencoder"]  # newest first
    assert {row.status for row in rows} == {"active"}
    assert rows[0].parent == rows[1].model
    assert [row.gate for row in rows] == ["passed", None, None]
    assert rows[0].validation_auc is not None
    assert rows[2].validation_auc is None


def test_nothing_is_there_yet(database: Database, database_settings: Settings) -> None:
    assert models(database_settings) == ()
    with pytest.raises(NotFoundError, match="there is no active student"):
        model_details(database_settings, "student")
    with pytest.raises(NotFoundError, match=r"no model 'x'; `python cli.py models list`"):
        model_details(database_settings, "x")


def test_show_tells_the_whole_lineage(trained_shop: Shop, command: Run) -> None:
    options = {"folder": trained_shop.folder, "variables": trained_shop.variables}
    found = command("models", "show", "student", "--json", **options).json
    [row] = trained_shop.rows(
        "SELECT model.model_id, parent.model_id, model.sha256, model.data_fingerprint, model.seed, "
        "model.code_version FROM model JOIN model AS parent ON parent.model_key = model.parent "
        "WHERE model.role = 'student'"
    )
    names = ("model", "parent", "sha256", "data_fingerprint", "seed", "code_version")
    assert tuple(found[name] for name in names) == row
    assert found["settings"]["epochs"] == 1
    assert found["settings"]["split"] == trained_shop.settings.split.model_dump(mode="json")
    # The autoencoder that its replacements were drawn by.
    [(autoencoder,)] = trained_shop.rows("SELECT model_id FROM model WHERE role = 'autoencoder'")
    assert found["metrics"]["autoencoder"] == autoencoder
    assert {engine["kind"] for engine in found["engines"]} >= {"onnx", "compile-settings"}
    [decision] = found["decisions"]
    assert (decision["decision"], decision["against"]) == ("passed", None)
    assert len(decision["checks"]) == 7
    wide = options | {"variables": trained_shop.variables | {"COLUMNS": "200"}}
    by_id = command("models", "show", found["model"], **wide)
    assert by_id.code == 0
    for text in (found["sha256"], found["parent"], "passed by"):
        assert text in by_id.out


def test_back_and_forth(shop: Shop, command: Run) -> None:
    first = active(shop)
    names = [first]
    for name in ("student-b", "student-c"):
        names.append(add_student(shop, name))
        shop.run("gate", gate)
    options = {"folder": shop.folder, "variables": shop.variables}
    back = command("models", "rollback", "--json", **options).json
    assert (back["model"], back["before"], back["role"]) == ("student-b", "student-c", "student")
    assert back["next"] == "it has no vectors: `python cli.py embed` computes all of them"
    [(parameters, counts)] = shop.rows(
        "SELECT job, counts FROM job_run ORDER BY run_id DESC LIMIT 1"
    )
    assert (parameters, counts["model"]) == ("models-rollback", "student-b")
    assert counts["by"]
    # Again: to the one before that, not forth to what was just left.
    again = shop.run("models-rollback", partial(roll_back, role="student"))
    assert (again.model, active(shop)) == (first, first)
    assert "computes the vectors of what is new since its last run;" in again.next
    message = command("models", "rollback", **options).error(2)
    assert message == f"no student was in use before {first}; `python cli.py models list` shows all"
    # What the gate passed once may come back by name; then a rollback returns here.
    assert run_promote(shop, "student-c").before == first
    assert shop.run("models-rollback", partial(roll_back, role="student")).model == first
    # Vectors that `embed` has dropped from the tables meanwhile are in the files still.
    run_promote(shop, "student-b")
    shop.rows("UPDATE embedding_set SET loaded_sha256 = NULL")
    back_again = shop.run("models-rollback", partial(roll_back, role="student"))
    assert "brings the others back into the tables" in back_again.next
    assert shop.run("embed", embed).model == first


def test_a_rollback_to_files_that_are_gone_changes_nothing(shop: Shop) -> None:
    first = active(shop)
    add_student(shop, "student-b")
    shop.run("gate", gate)
    (shop.settings.home / "artifacts" / "models" / first / "manifest.json").unlink()
    for body in (partial(roll_back, role="student"), partial(promote, model_id=first)):
        with pytest.raises(NotFoundError, match=first):
            shop.run("models-rollback", body)
        assert active(shop) == "student-b"


def test_promote_asks_what_the_gate_said(shop: Shop, command: Run) -> None:
    before = active(shop)
    name = add_student(shop, "student-new", opposite)
    with pytest.raises(RefusedError, match="may not be used: the gate has not looked at it; run"):
        run_promote(shop, name)
    with pytest.raises(RefusedError):
        shop.run("gate", gate)
    options = {"folder": shop.folder, "variables": shop.variables}
    message = command("models", "promote", name, **options).error(4)
    assert message.startswith(f"{name} may not be used: the gate refused it (auc: ")
    assert active(shop) == before
    forced = command("models", "promote", name, "--force", "--json", **options).json
    assert (forced["forced"], forced["before"], forced["status"]) == (True, before, "active")
    decisions = shop.rows(
        "SELECT decision, reason, other.model_id FROM gate_decision "
        "JOIN model USING (model_key) JOIN model AS other ON other.model_key = against "
        "WHERE model.model_id = %s ORDER BY decision_id DESC",
        name,
    )
    assert [row[0] for row in decisions] == ["forced", "refused"]
    assert decisions[0][1].startswith("promoted by hand: the gate refused it")
    assert decisions[0][2] == before
    # Once more changes nothing.
    again = run_promote(shop, name)
    assert (again.before, again.forced) == (name, False)
    # The one before was in use, so it needs no gate.
    assert run_promote(shop, before).forced is False


def test_retire(shop: Shop, command: Run) -> None:
    before = active(shop)
    name = add_student(shop, "student-new")
    result = shop.run("models-retire", partial(retire_model, model_id=name))
    assert (result.status, result.before) == ("retired", before)
    with pytest.raises(UserError, match=f"{before} is the student in use; take another into use"):
        shop.run("models-retire", partial(retire_model, model_id=before))
    ended = command("gate", folder=shop.folder, variables=shop.variables)
    assert ended.out.startswith("skipped: ")
    with pytest.raises(NotFoundError, match="no model 'x'"):
        shop.run("models-retire", partial(retire_model, model_id="x"))


def test_a_teacher_needs_no_gate(shop: Shop) -> None:
    [(first,)] = shop.rows("SELECT model_id FROM model WHERE role = 'teacher'")
    with pytest.raises(NotFoundError, match=f"no teacher was in use before {first}"):
        shop.run("models-rollback", partial(roll_back, role="teacher"))
    assert run_promote(shop, first).next.startswith("it is in use: students that are trained")
