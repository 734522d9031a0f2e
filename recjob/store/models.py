"""The model registry: what was trained, from what, how good it is, and which one is in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, text

from recjob.errors import NotFoundError
from recjob.store.artifacts import Role

Status = Literal["candidate", "active", "retired"]

MAKING_COMMANDS: dict[Role, str] = {
    "autoencoder": "train-autoencoder",
    "teacher": "train-teacher",
    "student": "distill",
}
"""The command that makes a model of each role."""


@dataclass(frozen=True)
class ModelRow:
    """A registered model."""

    model_id: str
    role: Role
    parent: str | None
    """model_id of the teacher of a student, of the autoencoder of a teacher."""
    settings: dict[str, Any]
    data_fingerprint: str
    metrics: dict[str, Any]
    sha256: str
    status: Status
    code_version: str
    seed: int
    created: datetime


@dataclass(frozen=True)
class EngineRow:
    """A compiled form of a model."""

    model_id: str
    key: str
    """Names all that the file depends on: network, runtime, target."""
    file: str
    """Name inside the model's artifact folder."""
    sha256: str
    kind: str
    target: str
    created: datetime


def register(
    connection: Connection,
    *,
    model_id: str,
    role: Role,
    parent: str | None,
    settings: Mapping[str, Any],
    data_fingerprint: str,
    metrics: Mapping[str, Any],
    sha256: str,
    seed: int,
    code_version: str,
) -> ModelRow:
    """Register a finished artifact as a candidate. Raises NotFoundError for an unknown parent."""
    connection.execute(
        text(
            "INSERT INTO model (model_id, role, parent, settings, data_fingerprint, metrics, "
            "sha256, seed, code_version) VALUES (:model_id, :role, :parent, "
            "cast(:settings AS jsonb), :data_fingerprint, cast(:metrics AS jsonb), :sha256, :seed, "
            ":code_version)"
        ),
        {
            "model_id": model_id,
            "role": role,
            "parent": None if parent is None else model_key(connection, parent),
            "settings": json.dumps(settings),
            "data_fingerprint": data_fingerprint,
            "metrics": json.dumps(metrics),
            "sha256": sha256,
            "seed": seed,
            "code_version": code_version,
        },
    )
    return model(connection, model_id)


def activate(connection: Connection, model_id: str) -> ModelRow:
    """Make this the one active model of its role; the one before is retired."""
    chosen = model(connection, model_id)
    # In key order and locked, so that two at once cannot both find the role free.
    connection.execute(
        text("SELECT model_key FROM model WHERE role = :role ORDER BY model_key FOR UPDATE"),
        {"role": chosen.role},
    )
    connection.execute(
        text(
            "UPDATE model SET status = 'retired' "
            "WHERE role = :role AND status = 'active' AND model_id <> :model_id"
        ),
        {"role": chosen.role, "model_id": model_id},
    )
    connection.execute(
        text("UPDATE model SET status = 'active' WHERE model_id = :model_id"),
        {"model_id": model_id},
    )
    return model(connection, model_id)


def active(connection: Connection, role: Role) -> ModelRow:
    """The active model of a role; NotFoundError says which command makes one."""
    row = connection.execute(
        text(f"{_SELECT} WHERE model.role = :role AND model.status = 'active'"), {"role": role}
    ).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no active {role}; run `python cli.py {MAKING_COMMANDS[role]}` first"
        )
    return _row(row)


def model(connection: Connection, model_id: str) -> ModelRow:
    """A model by its id; NotFoundError where there is none."""
    row = connection.execute(
        text(f"{_SELECT} WHERE model.model_id = :model_id"), {"model_id": model_id}
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no model {model_id!r}; `python cli.py models list` shows them")
    return _row(row)


def list_models(connection: Connection) -> list[ModelRow]:
    """All models, the newest first."""
    rows = connection.execute(text(f"{_SELECT} ORDER BY model.model_key DESC"))
    return [_row(row) for row in rows]


def model_key(connection: Connection, model_id: str) -> int:
    """The database's key of a model; NotFoundError where there is none."""
    key = connection.scalar(
        text("SELECT model_key FROM model WHERE model_id = :model_id"), {"model_id": model_id}
    )
    if key is None:
        raise NotFoundError(f"no model {model_id!r}; `python cli.py models list` shows them")
    return int(key)


def register_engine(
    connection: Connection,
    *,
    model_id: str,
    key: str,
    file: str,
    sha256: str,
    kind: str,
    target: str,
) -> None:
    """Register a compiled form; the same key again replaces the one before."""
    connection.execute(
        text(
            "INSERT INTO engine (model_key, key, file, sha256, kind, target) "
            "VALUES (:model_key, :key, :file, :sha256, :kind, :target) "
            "ON CONFLICT (model_key, key) DO UPDATE SET file = excluded.file, "
            "sha256 = excluded.sha256, kind = excluded.kind, target = excluded.target, "
            "created = now()"
        ),
        {
            "model_key": model_key(connection, model_id),
            "key": key,
            "file": file,
            "sha256": sha256,
            "kind": kind,
            "target": target,
        },
    )


def list_engines(connection: Connection, model_id: str) -> list[EngineRow]:
    """The compiled forms of a model, by key."""
    rows = connection.execute(
        text(
            "SELECT model_id, key, file, engine.sha256, kind, target, engine.created "
            "FROM engine JOIN model USING (model_key) WHERE model_id = :model_id "
            'ORDER BY key COLLATE "C"'
        ),
        {"model_id": model_id},
    )
    return [EngineRow(*row) for row in rows]


_SELECT = (
    "SELECT model.model_id, model.role, parent.model_id AS parent, model.settings, "
    "model.data_fingerprint, model.metrics, model.sha256, model.status, model.code_version, "
    "model.seed, model.created FROM model LEFT JOIN model AS parent "
    "ON parent.model_key = model.parent"
)


def _row(row: Row[Any]) -> ModelRow:
    assert row.role in get_args(Role)
    return ModelRow(**row._mapping)
