"""How much of the catalog came after a model was trained, by what imports say in the ledger."""

from __future__ import annotations

from typing import Final, Literal

from sqlalchemy import Connection, text

from recjob.store.artifacts import Role
from recjob.store.models import MAKING_COMMANDS, ModelRow, model

Rows = Literal["items", "interactions"]
_COUNT: Final[dict[Rows, str]] = {
    "items": "SELECT count(*) FROM item",
    "interactions": "SELECT count(*) FROM interaction",
}


LEARNS_FROM: Final[dict[Role, Rows]] = {
    "autoencoder": "items",
    "teacher": "interactions",
    "student": "interactions",
}


def data_change(connection: Connection, role: Role) -> float | None:
    """Share of what the role learns from that is new since its last model read the catalog.

    None where there is no model; see `last_trained`.
    """
    trained = last_trained(connection, role)
    return None if trained is None else share_added_since(connection, trained)


def last_trained(connection: Connection, role: Role) -> ModelRow | None:
    """The active model of a role; of students the newest of it and the candidates. None: none."""
    statuses = ["active", "candidate"] if role == "student" else ["active"]
    model_id = connection.scalar(
        text(
            "SELECT model_id FROM model WHERE role = :role AND status = ANY (:statuses) "
            "ORDER BY model_key DESC LIMIT 1"
        ),
        {"role": role, "statuses": statuses},
    )
    return None if model_id is None else model(connection, str(model_id))


def share_added_since(connection: Connection, trained: ModelRow) -> float:
    """Share of what its role learns from that imports added after this model read the catalog.

    A model that was trained elsewhere counts as having read it when it was registered. At most 1.
    """
    rows = LEARNS_FROM[trained.role]
    total = int(connection.scalar(text(_COUNT[rows])) or 0)
    if total == 0:
        return 0.0
    # An import that a training did not see has a higher number: it waited for the catalog.
    read_by = connection.scalar(
        text("SELECT max(run_id) FROM job_run WHERE job = :job AND counts ->> 'model' = :model_id"),
        {"job": MAKING_COMMANDS[trained.role], "model_id": trained.model_id},
    )
    added = connection.scalar(
        text(
            "SELECT coalesce(sum((counts #>> ARRAY[:rows, 'added'])::bigint), 0) FROM job_run "
            "WHERE job = 'import' AND outcome = 'done' AND CASE WHEN cast(:read_by AS bigint) "
            "IS NULL THEN ended > :created ELSE run_id > :read_by END"
        ),
        {"rows": rows, "read_by": read_by, "created": trained.created},
    )
    return min(int(added or 0) / total, 1.0)
