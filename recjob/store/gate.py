"""What the gate decided about students: each decision for good, with its checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from recjob.store.models import model_key

Decision = Literal["passed", "refused", "forced"]


@dataclass(frozen=True)
class DecisionRow:
    """A decision about a model."""

    decision: Decision
    decided: datetime
    decided_by: str
    """The user of the database who decided."""
    against: str | None
    """model_id of the student that was active then; None: there was none."""
    run_id: int | None
    """Of the ledger; None where retention removed the run."""
    reason: str | None
    """The checks that failed; None where it passed."""
    checks: list[dict[str, Any]]


def record_decision(
    connection: Connection,
    model_id: str,
    decision: Decision,
    *,
    against: str | None,
    run_id: int,
    reason: str | None,
    checks: Sequence[Mapping[str, Any]],
) -> DecisionRow:
    """Add a decision; NotFoundError for an unknown model."""
    connection.execute(
        text(
            "INSERT INTO gate_decision (model_key, against, run_id, decision, reason, checks) "
            "VALUES (:model_key, :against, :run_id, :decision, :reason, cast(:checks AS jsonb))"
        ),
        {
            "model_key": model_key(connection, model_id),
            "against": None if against is None else model_key(connection, against),
            "run_id": run_id,
            "decision": decision,
            "reason": reason,
            "checks": json.dumps(list(checks)),
        },
    )
    return decisions_of(connection, model_id)[0]


def decisions_of(connection: Connection, model_id: str) -> list[DecisionRow]:
    """The decisions about a model, the newest first; NotFoundError for an unknown one."""
    rows = connection.execute(
        text(
            "SELECT decision, decided, decided_by, other.model_id AS against, run_id, reason, "
            "checks FROM gate_decision LEFT JOIN model AS other ON other.model_key = against "
            "WHERE gate_decision.model_key = :model_key ORDER BY decision_id DESC"
        ),
        {"model_key": model_key(connection, model_id)},
    )
    return [DecisionRow(**row._mapping) for row in rows]


def last_decisions(connection: Connection) -> dict[str, Decision]:
    """The last decision about each model that has one, by model_id."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (model_key) model_id, decision FROM gate_decision "
            "JOIN model USING (model_key) ORDER BY model_key, decision_id DESC"
        )
    )
    return {row.model_id: row.decision for row in rows}


def database_user(connection: Connection) -> str:
    """The user of the database who asks, whatever role the job took."""
    return str(connection.scalar(text("SELECT session_user")))
