"""Which models and rows are old, and what the owner's functions refuse to remove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from recjob.errors import NotFoundError
from recjob.store.artifacts import Role
from recjob.store.database import Database
from recjob.store.models import activate, mark_files_removed, model, register_engine, take_back
from recjob.store.retention import (
    drop_schedule_rows,
    models_without_files,
    old_models,
)
from tests.store.registry import register_model

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=1)


def in_use(connection: Connection, model_id: str, role: Role, parent: str | None = None) -> None:
    register_model(connection, model_id, role, parent)
    activate(connection, model_id)


def old(connection: Connection, retired: int, before: datetime = LONG_AGO) -> list[str]:
    return [row.model_id for row in old_models(connection, retired, before)]


def test_the_retired_that_were_in_use_last_stay(database: Database) -> None:
    with database.begin() as connection:
        for number in range(5):
            in_use(connection, f"s{number}", "student")
            in_use(connection, f"a{number}", "autoencoder")
        assert old(connection, 2) == ["s0", "a0", "s1", "a1"]
        assert old(connection, 4) == []
        # s1 came back into use, so that it was in use later than s2 and s3.
        activate(connection, "s1")
        activate(connection, "s4")
        assert [name for name in old(connection, 2) if name.startswith("s")] == ["s0", "s2"]
        # One that was never in use counts as the oldest.
        register_model(connection, "never")
        connection.execute(text("UPDATE model SET status = 'retired' WHERE model_id = 'never'"))
        assert "never" in old(connection, 4)


def test_the_teacher_of_a_student_that_is_kept_stays(database: Database) -> None:
    with database.begin() as connection:
        for number in range(4):
            in_use(connection, f"t{number}", "teacher")
            in_use(connection, f"s{number}", "student", parent=f"t{number}")
        register_model(connection, "candidate", parent="t1")
        # Kept: s3 in use, s2 retired, and the candidate; so t0 goes with s0, t1 stays without s1.
        assert old(connection, 1) == ["t0", "s0", "s1"]
        for model_id in ("t0", "s0", "s1"):
            mark_files_removed(connection, model_id)
        assert old(connection, 1) == []
        assert models_without_files(connection) == ["t0", "s0", "s1"]


def test_old_candidates_go_but_for_the_newest_of_a_role(database: Database) -> None:
    with database.begin() as connection:
        in_use(connection, "s0", "student")
        for name in ("c1", "c2", "c3"):
            register_model(connection, name)
        register_model(connection, "t1", "teacher")
        assert old(connection, 3, LONG_AGO) == []
        assert old(connection, 3, SOON) == ["c1", "c2"]
        mark_files_removed(connection, "c1")
        row = model(connection, "c1")
        assert row.status == "retired"  # nothing takes it for a candidate any more
        assert row.files_removed is not None


def test_without_files_there_is_no_way_back_into_use(database: Database) -> None:
    with database.begin() as connection:
        in_use(connection, "s0", "student")
        in_use(connection, "s1", "student")
        register_engine(
            connection, model_id="s0", key="k", file="f", sha256="0" * 64, kind="onnx", target="t"
        )
        mark_files_removed(connection, "s0")
        mark_files_removed(connection, "s0")  # as after a kill
        assert connection.scalar(text("SELECT count(*) FROM engine")) == 0
        told = "s0 cannot come back into use: retention removed its files on 20"
        with pytest.raises(NotFoundError, match=told):
            activate(connection, "s0")
        with pytest.raises(NotFoundError, match=told):
            take_back(connection, "student")
        assert model(connection, "s1").status == "active"


def test_never_the_one_in_use(database: Database) -> None:
    with database.begin() as connection:
        in_use(connection, "s0", "student")
    for model_id in ("s0", "nobody"):
        with pytest.raises(DBAPIError) as refused, database.engine.begin() as connection:
            mark_files_removed(connection, model_id)
        assert isinstance(refused.value.orig, psycopg.errors.RaiseException)


def test_the_newest_row_of_each_entry_of_the_schedule_stays(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO schedule_run (entry, slot, ended, outcome, host, pid) "
                "SELECT entry, day, day, 'done', 'h', 1 FROM unnest(ARRAY['import', 'embed']) "
                "AS entry, generate_series('2026-01-01Z'::timestamptz, '2026-01-05Z', '1 day') "
                "AS day"
            )
        )
        connection.execute(
            text(
                "INSERT INTO schedule_run (entry, slot, host, pid) "
                "VALUES ('nightly', '2026-01-01', 'h', 1)"
            )
        )
        assert drop_schedule_rows(connection, datetime(2026, 1, 3, 12, tzinfo=UTC)) == 6
        assert drop_schedule_rows(connection, datetime(2027, 1, 1, tzinfo=UTC)) == 2
        rows = connection.execute(text("SELECT entry, slot FROM schedule_run ORDER BY 1")).all()
        assert [entry for entry, _ in rows] == ["embed", "import", "nightly"]
        assert all(slot.day == 5 for entry, slot in rows if entry != "nightly")
