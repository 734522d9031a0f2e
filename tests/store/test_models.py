"""The registry: one active model per role, and where each came from."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from recjob.errors import NotFoundError, UserError
from recjob.store.database import Database
from recjob.store.gate import database_user, decisions_of, last_decisions, record_decision
from recjob.store.ledger import Lease, Locks
from recjob.store.models import (
    ModelRow,
    activate,
    active,
    list_engines,
    list_models,
    model,
    newest_candidate,
    register_engine,
    retire,
    take_back,
)
from tests.store.registry import register_model


def test_register_and_read_back(database: Database) -> None:
    with database.begin() as connection:
        register_model(connection, "t", "teacher")
        registered = register_model(connection, "s", "student", parent="t")
        assert registered == model(connection, "s")
        assert [row.model_id for row in list_models(connection)] == ["s", "t"]
    assert registered.parent == "t"
    assert registered.status == "candidate"
    assert registered.settings == {"epochs": 3}
    assert registered.metrics == {"auc": 0.9}
    assert registered.seed == 7


def test_activation_retires_the_one_before_and_no_other_role(database: Database) -> None:
    with database.begin() as connection:
        register_model(connection, "t", "teacher")
        activate(connection, "t")
        for name in ("s1", "s2"):
            register_model(connection, name)
            assert activate(connection, name).status == "active"
        activate(connection, "s2")  # again: nothing changes
        statuses = {row.model_id: row.status for row in list_models(connection)}
        assert active(connection, "student").model_id == "s2"
        activate(connection, "s1")  # an old one comes back
        assert active(connection, "student").model_id == "s1"
    assert statuses == {"t": "active", "s1": "retired", "s2": "active"}


def test_activations_at_once_leave_one(database: Database) -> None:
    names = [f"s{n}" for n in range(6)]
    with database.begin() as connection:
        for name in names:
            register_model(connection, name)
    barrier = threading.Barrier(len(names))

    def run(name: str) -> None:
        barrier.wait()
        with database.begin() as connection:
            activate(connection, name)

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.connect() as connection:
        statuses = sorted(row.status for row in list_models(connection))
    assert statuses == ["active", *["retired"] * 5]


def test_going_back_step_by_step_and_never_to_what_was_left(database: Database) -> None:
    with database.begin() as connection:
        with pytest.raises(NotFoundError, match="no active student"):
            take_back(connection, "student")
        for name in ("a", "b", "c", "d", "never"):
            register_model(connection, name)
        for name in ("a", "b", "c"):
            activate(connection, name)
        assert [row.model_id for row in take_back(connection, "student")] == ["c", "b"]
        assert active(connection, "student").model_id == "b"
        assert [row.model_id for row in take_back(connection, "student")] == ["b", "a"]
        with pytest.raises(NotFoundError, match="no student was in use before a"):
            take_back(connection, "student")
        activate(connection, "d")
        gone, back = take_back(connection, "student")
        assert (gone.model_id, back.model_id) == ("d", "a")
        assert (gone.status, gone.activated) == ("retired", None)
        statuses = {row.model_id: row.status for row in list_models(connection)}
        assert statuses["never"] == "candidate"
        assert list(statuses.values()).count("active") == 1


def test_the_newest_candidate_is_one_that_came_after_the_active_model(database: Database) -> None:
    with database.begin() as connection:
        assert newest_candidate(connection, "student") is None
        register_model(connection, "t", "teacher")
        for name in ("a", "b", "c"):
            register_model(connection, name)
        assert _name(newest_candidate(connection, "student")) == "c"
        activate(connection, "b")
        assert _name(newest_candidate(connection, "student")) == "c"
        retire(connection, "c")
        assert newest_candidate(connection, "student") is None  # a is older than b
        with pytest.raises(UserError, match="b is the student in use"):
            retire(connection, "b")
        assert retire(connection, "c").status == "retired"  # again: nothing changes


def _name(row: ModelRow | None) -> str | None:
    return None if row is None else row.model_id


def test_decisions_of_the_gate(database: Database) -> None:
    lease = Lease(database, "gate", Locks(), {})
    with database.begin() as connection:
        for name in ("a", "b"):
            register_model(connection, name)
        for decision, reason in (("refused", "too slow"), ("forced", "too slow")):
            row = record_decision(
                connection,
                "b",
                decision,  # type: ignore[arg-type]
                against="a",
                run_id=lease.run_id,
                reason=reason,
                checks=[{"name": "latency", "passed": False}],
            )
            assert (row.decision, row.against, row.run_id) == (decision, "a", lease.run_id)
            assert row.decided_by == database_user(connection)
            assert row.checks == [{"name": "latency", "passed": False}]
        assert [row.decision for row in decisions_of(connection, "b")] == ["forced", "refused"]
        assert last_decisions(connection) == {"b": "forced"}
        assert decisions_of(connection, "a") == []
        with pytest.raises(NotFoundError, match="models list"):
            decisions_of(connection, "c")
    lease.end("done", {}, [], {}, None)


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("autoencoder", "train-autoencoder"),
        ("teacher", "train-teacher"),
        ("student", "distill"),
    ],
)
def test_no_active_model_names_the_command(database: Database, role: str, command: str) -> None:
    with database.connect() as connection, pytest.raises(NotFoundError, match=f"cli.py {command}`"):
        active(connection, role)  # type: ignore[arg-type]


def test_unknown_models(database: Database) -> None:
    with database.connect() as connection:
        for call in (model, activate, list_engines_of_unknown):
            with pytest.raises(NotFoundError, match="models list"):
                call(connection, "nothing")
        with pytest.raises(NotFoundError, match="models list"):
            register_model(connection, "s", parent="nothing")


def list_engines_of_unknown(connection: object, model_id: str) -> None:
    register_engine(
        connection,  # type: ignore[arg-type]
        model_id=model_id,
        key="k",
        file="f",
        sha256="0" * 64,
        kind="onnx",
        target="any",
    )


def test_engines_of_one_key_replace_each_other(database: Database) -> None:
    with database.begin() as connection:
        register_model(connection, "s")
        for key, digest in (("b", "1"), ("a", "2"), ("b", "3")):
            register_engine(
                connection,
                model_id="s",
                key=key,
                file=f"engines/{key}.plan",
                sha256=digest * 64,
                kind="tensorrt",
                target="sm89",
            )
        engines = list_engines(connection, "s")
    assert [(row.key, row.sha256[0]) for row in engines] == [("a", "2"), ("b", "3")]
    assert engines[0].file == "engines/a.plan"


def test_a_sha256_that_is_none_is_refused_by_the_table(database: Database) -> None:
    with database.begin() as connection:
        register_model(connection, "s")
    statement = text("UPDATE model SET sha256 = 'x'")
    with (
        pytest.raises(Exception, match="violates check constraint"),
        database.begin() as connection,
    ):
        connection.execute(statement)
