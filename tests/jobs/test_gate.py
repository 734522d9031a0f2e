"""The gate on the tiny shop: who comes into use, who does not, and what stays on record."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from recjob.errors import NotFoundError, RefusedError, TemporaryError, UserError
from recjob.jobs.compare import compare
from recjob.jobs.compile import student_to_compile
from recjob.jobs.embed import embed
from recjob.jobs.evaluate import EvaluateResult
from recjob.jobs.gate import GateResult, gate
from recjob.jobs.gate_checks import Check, decide
from recjob.jobs.gate_engines import medians_in_turn
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult, SkippedResult
from recjob.store.database import Database, open_database
from recjob.store.ledger import Lease, Locks
from recjob.store.models import activate, retire
from tests.command_line import Run
from tests.fixtures_shop import Shop
from tests.jobs.registry import Tensors, add_student, opposite
from tests.store.registry import register_model

FORCED = partial(gate, force=True)


def active(shop: Shop) -> str:
    return shop.model_folder("student").name


def statuses(shop: Shop) -> dict[str, str]:
    return dict(shop.rows("SELECT model_id, status FROM model WHERE role = 'student'"))


def passed(result: JobResult) -> GateResult:
    assert isinstance(result, GateResult)
    return result


def test_the_first_student_came_through_the_gate(trained_shop: Shop) -> None:
    result = passed(trained_shop.results["gate"])
    assert (result.decision, result.against) == ("passed", None)
    measured = {check.name for check in result.checks if check.passed is not None}
    assert measured == {"popularity", "engines"}
    assert result.model == active(trained_shop)


def test_one_as_good_passes(shop: Shop) -> None:
    before = active(shop)
    name = add_student(shop, "student-same")
    compared = shop.run("compare", partial(compare, first=name, second="student"))
    result = passed(shop.run("gate", gate))
    assert (result.model, result.against, result.decision) == (name, before, "passed")
    assert statuses(shop) == {name: "active", before: "retired"}
    checks = {check.name: check for check in result.checks}
    assert all(check.passed is True for check in checks.values()), checks
    for check in checks.values():  # the same vectors: the same in everything but time
        if check.name not in ("engines", "latency", "popularity"):
            assert check.value == pytest.approx(check.reference)
            assert check.decisive == pytest.approx(0)
    # The same figures as those of other jobs.
    of_compare = {row.metric: row.mean_a for row in compared.differences}
    auc = of_compare["auc"]
    assert checks["auc"].value == pytest.approx(auc)
    assert (result.users, result.positives) == (compared.users, compared.positives)
    evaluated = shop.results["evaluate"]
    assert isinstance(evaluated, EvaluateResult)
    by_method = {row.method: row for row in evaluated.quality}
    assert checks["popularity"].reference == pytest.approx(by_method["popularity"].auc)
    assert checks["coverage"].value == pytest.approx(by_method["student"].coverage)
    assert 0 < (checks["engines"].value or 0) < 1e-4
    assert -1 <= (checks["agreement"].value or -2) <= 1
    # What stays on record.
    [(decision, decided_by, reason, kept, run)] = shop.rows(
        "SELECT decision, decided_by = session_user, reason, checks, run_id FROM gate_decision "
        "JOIN model USING (model_key) WHERE model_id = %s",
        name,
    )
    assert (decision, decided_by, reason, run) == ("passed", True, None, result.run_id)
    assert kept == [check.model_dump(mode="json") for check in result.checks]
    [(metrics,)] = shop.rows("SELECT metrics FROM job_run WHERE run_id = %s", result.run_id)
    labels = {"role": "student", "split": "test", "model": name}
    gauges = {g["name"]: g["value"] for g in metrics["gauges"] if g["labels"] == labels}
    assert gauges["recjob_model_auc"] == pytest.approx(auc)
    assert gauges["recjob_model_ndcg"] == pytest.approx(of_compare["ndcg_mean"])


def test_a_bad_one_is_refused_and_everything_goes_on(shop: Shop, command: Run) -> None:
    before, lists = active(shop), shop.lists()
    name = add_student(shop, "student-bad", opposite)
    options = {"folder": shop.folder, "variables": shop.variables}
    message = command("gate", **options).error(4)
    assert message.startswith(f"the gate refuses {name}, and {before} stays in use: auc: the lower")
    assert statuses(shop) == {before: "active", name: "candidate"}
    [(outcome, error, run)] = shop.rows(
        "SELECT outcome, error, run_id FROM job_run ORDER BY run_id DESC LIMIT 1"
    )
    assert (outcome, error) == ("refused", message)
    [(decision, reason, checks, decided_in)] = shop.rows(
        "SELECT decision, reason, checks, run_id FROM gate_decision JOIN model USING (model_key) "
        "WHERE model_id = %s",
        name,
    )
    assert (decision, decided_in) == ("refused", run)
    assert reason in message
    auc, agreement = (next(c for c in checks if c["name"] == n) for n in ("auc", "agreement"))
    assert auc["value"] == pytest.approx(1 - auc["reference"])  # the opposite order
    assert agreement["value"] == pytest.approx(-agreement["reference"], abs=1e-6)
    assert (auc["passed"], agreement["passed"]) == (False, False)
    # The old one serves on.
    assert shop.run("embed", embed).model == before
    shop.run("nightly-recommend", nightly_recommend)
    assert shop.lists() == lists
    # Overruled, and that stays on record.
    value = command("gate", "--force", "--json", **options).json
    assert (value["model"], value["decision"], value["against"]) == (name, "forced", before)
    assert statuses(shop) == {before: "retired", name: "active"}
    decisions = shop.rows("SELECT decision, reason FROM gate_decision ORDER BY decision_id")
    assert decisions[-1] == ("forced", reason)
    assert shop.run("embed", embed).model == name


def test_with_nothing_new_it_is_skipped(shop: Shop, command: Run) -> None:
    before = active(shop)
    options = {"folder": shop.folder, "variables": shop.variables}
    ended = command("gate", **options)
    assert ended.code == 0
    assert ended.out == (
        f"skipped: there is no candidate student newer than {before}, which is in use; "
        "`python cli.py distill` makes one\n"
    )
    # A candidate that is older than the one in use is none.
    name = add_student(shop, "student-older")
    later = add_student(shop, "student-later")
    assert passed(shop.run("gate", gate)).model == later
    assert isinstance(shop.run("gate", gate), SkippedResult)
    assert statuses(shop)[name] == "candidate"
    [(outcome,)] = shop.rows("SELECT outcome FROM job_run ORDER BY run_id DESC LIMIT 1")
    assert outcome == "skipped"


def test_one_that_was_not_compiled(shop: Shop) -> None:
    name = add_student(shop, "student-raw", compiled=False)
    with pytest.raises(UserError, match=f"{name} was not compiled; run `python cli.py compile`"):
        shop.run("gate", gate)
    result = passed(shop.run("gate", FORCED))
    engines = next(check for check in result.checks if check.name == "engines")
    assert (engines.passed, engines.meaning) == (None, "not measured: it was not compiled")


def test_compiled_forms_of_another_network(shop: Shop) -> None:
    """As good as it may be in torch: what embeds would compute something else."""

    def other_features(tensors: Tensors) -> Tensors:
        return {
            name: -values if name.startswith("head") else values for name, values in tensors.items()
        }

    add_student(shop, "student-other", other_features, file="model.safetensors")
    with pytest.raises(RefusedError, match="engines: the distance of a compiled vector from"):
        shop.run("gate", gate)


@pytest.mark.parametrize("file", ["model.safetensors", "users.safetensors"])
def test_vectors_that_are_no_numbers(shop: Shop, command: Run, file: str) -> None:
    """Refused like any other bad one, and nobody can force it: no night would end."""

    def no_numbers(tensors: Tensors) -> Tensors:
        return {name: values * float("nan") for name, values in tensors.items()}

    before, options = active(shop), {"folder": shop.folder, "variables": shop.variables}
    name = add_student(shop, "student-nan", no_numbers, file=file)
    for arguments in ((), ("--force",)):
        message = command("gate", *arguments, **options).error(4)
        assert message.startswith(f"the gate refuses {name}, and {before} stays in use: vectors: ")
    assert statuses(shop) == {before: "active", name: "candidate"}
    [(decision, reason, [check]), _] = shop.rows(
        "SELECT decision, reason, checks FROM gate_decision JOIN model USING (model_key) "
        "WHERE model_id = %s",
        name,
    )
    assert decision == "refused"
    assert (check["name"], check["passed"], check["value"]) == ("vectors", False, None)
    assert "a vector that is not finite" in reason


def test_who_ranks_nothing_agrees_with_nobody(shop: Shop) -> None:
    """Not: was not measured, which would refuse nothing."""
    add_student(shop, "student-flat", lambda users: {n: v * 0 for n, v in users.items()})
    with pytest.raises(RefusedError, match=r"agreement: the loss .* \(0 beside 0\."):
        shop.run("gate", gate)


def test_a_figure_that_is_no_number_is_on_record(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_student(shop, "student-new")
    monkeypatch.setattr("recjob.jobs.gate.engine_difference", lambda *_: float("nan"))
    with pytest.raises(RefusedError, match=r"engines: .* and is nan"):
        shop.run("gate", gate)
    [(kept,)] = shop.rows(
        "SELECT checks FROM gate_decision JOIN model USING (model_key) WHERE model_id = %s", name
    )
    [engines] = [check for check in kept if check["name"] == "engines"]
    assert (engines["passed"], engines["value"]) == (False, None)


def test_a_student_of_another_split(shop: Shop, command: Run) -> None:
    """What tests it may have trained it: such a figure decides nothing and is shown nowhere."""
    before, name = active(shop), add_student(shop, "student-new")
    other = shop.variables | {"RECJOB_SPLIT__KEY": "another"}
    options = {"folder": shop.folder, "variables": other}
    message = command("gate", **options).error(2)
    assert message.startswith(f"{name} was trained with another [split], so it may have learned")
    assert statuses(shop) == {before: "active", name: "candidate"}
    shop.rows(
        "UPDATE model SET settings = jsonb_set(settings, '{split,key}', '\"older\"') "
        "WHERE role = 'teacher'"
    )
    at_home = {"folder": shop.folder, "variables": shop.variables}
    assert f", the teacher of {name}, was trained" in command("gate", **at_home).error(2)
    ended = command("evaluate", "--json", **options)
    for row in (before, ended.json["teacher"]):
        assert f"{row} was trained with another [split]" in ended.err
    [(metrics,)] = shop.rows("SELECT metrics FROM job_run ORDER BY run_id DESC LIMIT 1")
    assert "recjob_model_auc" not in {gauge["name"] for gauge in metrics["gauges"]}


@pytest.mark.parametrize("force", [False, True])
def test_another_student_came_into_use_meanwhile(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    rival, name = add_student(shop, "student-rival"), add_student(shop, "student-new")

    def body(context: JobContext) -> JobResult:
        def meanwhile(*arguments: Any) -> tuple[Check, ...]:
            with context.database.begin() as connection:
                activate(connection, rival)
            return decide(*arguments)

        monkeypatch.setattr("recjob.jobs.gate.decide", meanwhile)
        return gate(context, force)

    with pytest.raises(TemporaryError, match="another student became active while student-new"):
        shop.run("gate", body)
    assert statuses(shop)[name] == "candidate"
    assert active(shop) == rival
    assert shop.rows("SELECT count(*) FROM gate_decision") == [(1,)]  # the first student's


def test_two_gates_at_once(shop: Shop, command: Run) -> None:
    with open_database(shop.settings) as database:
        other = Lease(database, "gate", Locks(), {})
        message = command("gate", folder=shop.folder, variables=shop.variables).error(3)
        assert message.startswith("gate cannot start: gate (pid ")
        other.end("done", {}, [], {}, None)


def test_compile_takes_what_the_gate_will_look_at(database: Database) -> None:
    with database.begin() as connection:
        with pytest.raises(NotFoundError, match=r"run `python cli.py distill` first"):
            student_to_compile(connection, None)
        for name in ("older", "in-use", "newer", "newest"):
            register_model(connection, name)
        register_model(connection, "teacher-1", "teacher")
        activate(connection, "in-use")
        assert student_to_compile(connection, None).model_id == "newest"
        assert student_to_compile(connection, "older").model_id == "older"
        for name in ("newest", "newer"):
            retire(connection, name)
        assert student_to_compile(connection, None).model_id == "in-use"
        with pytest.raises(UserError, match="teacher-1 is no student but of role teacher"):
            student_to_compile(connection, "teacher-1")


def test_medians_in_turn() -> None:
    calls: list[str] = []
    seconds = medians_in_turn([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    assert calls == ["a", "b"] * 4
    assert len(seconds) == 2
    slow, fast = medians_in_turn(
        [lambda: torch.randn(600, 600) @ torch.randn(600, 600), lambda: None], 5
    )
    assert slow > fast
