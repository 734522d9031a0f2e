"""Texts that name a user, and what is left of them."""

from __future__ import annotations

import json
import re

import pytest
from sqlalchemy import text

from recjob.catalog.table_files import show
from recjob.errors import DataError
from recjob.store.database import Database
from recjob.store.forgotten import forget_user
from recjob.store.mentions import (
    REDACTED,
    Mentions,
    naming_no_forgotten,
    quoted_in,
    redact_texts,
)
from tests.store.registry import register_model


@pytest.mark.parametrize(
    ("user_id", "written", "left"),
    [
        ("user-1", "user-1 has two lists", f"{REDACTED} has two lists"),
        ("user-1", "users user-12, xuser-1 and user-1-b", "users user-12, xuser-1 and user-1-b"),
        ("user-1", "user 'user-1', row 3: user-1.", f"user '{REDACTED}', row 3: {REDACTED}."),
        ("a@b.de", 'no "a@b.de" (a@b.de)', f'no "{REDACTED}" ({REDACTED})'),
        ("7", "run 7 of 17, 7", f"run {REDACTED} of 17, {REDACTED}"),
        ("o'neil \\ x", show("o'neil \\ x"), f'"{REDACTED}"'),
        ("Zoë", json.dumps({"user": "Zoë"}), f'{{"user": "{REDACTED}"}}'),
        ("a&b", "<td>a&amp;b</td>", f"<td>{REDACTED}</td>"),
        ("long" * 30, f"unknown {show('long' * 30)}", f"unknown '{REDACTED}"),
        (".*", "student is fine", "student is fine"),
    ],
)
def test_texts(user_id: str, written: str, left: str) -> None:
    mentions = Mentions(user_id)
    assert mentions.without(written) == left
    assert mentions.within(written) == (left != written)
    assert not mentions.within(left)


@pytest.mark.parametrize("user_id", ["anna", "o'neil", 'a "b" c', "x\\y", "two\nlines", "Zoë"])
def test_what_a_message_quotes(user_id: str) -> None:
    message = f"it's wrong: row 3: user {show(user_id)} has no outfit 'o1' ('\\x')"
    assert quoted_in(message) == [user_id, "o1"]


def test_a_mistake_in_a_forgotten_users_row_names_nobody(database: Database) -> None:
    with database.begin() as connection:
        forget_user(connection, "anna")
    with (
        database.connect() as connection,
        pytest.raises(DataError, match=rf"row 3: '{re.escape(REDACTED)}' and 'ben'$"),
        naming_no_forgotten(connection),
    ):
        raise DataError("row 3: 'anna' and 'ben'")


def test_json_keeps_its_keys_and_numbers() -> None:
    document = {"anna": 1, "list": ["anna", 7, None, {"error": "bad row of anna"}]}
    assert Mentions("anna").without(document) == {
        "anna": 1,
        "list": [REDACTED, 7, None, {"error": f"bad row of {REDACTED}"}],
    }


def test_every_table_that_holds_texts(database: Database) -> None:
    """Also through quotes and backslashes that JSON writes in its own way; others stay."""
    user_id = 'anna "\\" b'
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_run (job, host, pid, outcome, ended, error, parameters, counts) "
                "VALUES ('import', 'h', 1, 'failed', now(), :error, CAST(:document AS jsonb), "
                "CAST(:document AS jsonb)), ('import', 'h', 1, 'done', now(), NULL, '{}', '{}')"
            ),
            {
                "error": f"row of {show(user_id)}",
                "document": json.dumps({"who": [user_id], "annas": "anna and others"}),
            },
        )
        connection.execute(
            text(
                "INSERT INTO schedule_run (entry, slot, reason, host, pid) "
                "VALUES ('import', now(), :reason, 'h', 1), "
                "('import', '2026-01-01', 'anna', 'h', 1)"
            ),
            {"reason": f"import failed: {user_id} is bad"},
        )
        register_model(connection, "student-1")
        connection.execute(
            text(
                "INSERT INTO gate_decision (model_key, decision, reason, checks) "
                "SELECT model_key, 'refused', :reason, CAST(:checks AS jsonb) FROM model"
            ),
            {"reason": f"worse for {user_id}", "checks": json.dumps([{"worst": user_id}])},
        )
        assert redact_texts(connection, user_id) == 3
        assert redact_texts(connection, user_id) == 0
        run = connection.execute(
            text("SELECT error, parameters, counts FROM job_run ORDER BY run_id LIMIT 1")
        ).one()
        document = {"who": [REDACTED], "annas": "anna and others"}
        assert run == (f"row of '{REDACTED}'", document, document)
        assert set(connection.scalars(text("SELECT reason FROM schedule_run"))) == {
            f"import failed: {REDACTED} is bad",
            "anna",
        }
        decision = connection.execute(text("SELECT reason, checks FROM gate_decision")).one()
        assert decision == (f"worse for {REDACTED}", [{"worst": REDACTED}])
