"""Short ways to register what a test needs."""

from __future__ import annotations

from sqlalchemy import Connection

from recjob.store.artifacts import Role
from recjob.store.models import ModelRow, register


def register_model(
    connection: Connection, model_id: str, role: Role = "student", parent: str | None = None
) -> ModelRow:
    """A candidate with plausible values."""
    return register(
        connection,
        model_id=model_id,
        role=role,
        parent=parent,
        settings={"epochs": 3},
        data_fingerprint="f" * 64,
        metrics={"auc": 0.9},
        sha256="0" * 64,
        seed=7,
        code_version="0.1.0",
    )
