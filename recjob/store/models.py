"""The model registry: what was trained, from what, how good it is, and which one is in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, text

from recjob.errors import NotFoundError, UserError
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
    activated: datetime | None
    """When it came into use; None: never, or a rollback took it out again."""
    files_removed: datetime | None
    """When retention removed its files; None: they are there."""


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
    lock_role(connection, chosen.role)
    _require_files(model(connection, model_id))
    connection.execute(
        text(
            "UPDATE model SET status = 'retired' "
            "WHERE role = :role AND status = 'active' AND model_id <> :model_id"
        ),
        {"role": chosen.role, "model_id": model_id},
    )
    # Of the clock: two models that one transaction activates have different times.
    connection.execute(
        text(
            "UPDATE model SET status = 'active', activated = clock_timestamp() "
            "WHERE model_id = :model_id AND status <> 'active'"
        ),
        {"model_id": model_id},
    )
    return model(connection, model_id)


def retire(connection: Connection, model_id: str) -> ModelRow:
    """A candidate that shall never be active; UserError for the model in use."""
    lock_role(connection, model(connection, model_id).role)
    chosen = model(connection, model_id)
    if chosen.status == "active":
        raise UserError(
            f"{model_id} is the {chosen.role} in use; take another into use first "
            f"(`python cli.py models promote ID`, or `models rollback {chosen.role}`)"
        )
    connection.execute(
        text("UPDATE model SET status = 'retired' WHERE model_id = :model_id"),
        {"model_id": model_id},
    )
    return model(connection, model_id)


def take_back(connection: Connection, role: Role) -> tuple[ModelRow, ModelRow]:
    """Return to the model that was active before; the one that goes, and the one in use now.

    Again and again it goes further back. Raises NotFoundError where there is none to return to.
    """
    lock_role(connection, role)
    current = active(connection, role)
    before = connection.scalar(
        text(
            "SELECT model_id FROM model WHERE role = :role AND status = 'retired' "
            "AND activated < :activated ORDER BY activated DESC LIMIT 1"
        ),
        {"role": role, "activated": current.activated},
    )
    if before is None:
        raise NotFoundError(
            f"no {role} was in use before {current.model_id}; `python cli.py models list` shows all"
        )
    _require_files(model(connection, before))
    # Its place in the history goes: what comes after it shall not be rolled back to it.
    connection.execute(
        text("UPDATE model SET status = 'retired', activated = NULL WHERE model_id = :model_id"),
        {"model_id": current.model_id},
    )
    connection.execute(
        text("UPDATE model SET status = 'active' WHERE model_id = :model_id"), {"model_id": before}
    )
    return model(connection, current.model_id), model(connection, before)


def replace_sha256(connection: Connection, model_id: str, sha256: str) -> None:
    """Register other content of a model's files; only `forget` changes what a model holds."""
    connection.execute(
        text("UPDATE model SET sha256 = :sha256 WHERE model_id = :model_id"),
        {"sha256": sha256, "model_id": model_id},
    )


def mark_files_removed(connection: Connection, model_id: str) -> None:
    """A model that is not in use loses its files for good; what is known of it stays."""
    connection.execute(text("SELECT mark_files_removed(:model_id)"), {"model_id": model_id})


def lock_role(connection: Connection, role: Role) -> None:
    """Keep others from changing which model of a role is active until this transaction ends.

    In key order, so that two at once cannot both find the role free, nor wait for each other.
    """
    connection.execute(
        text("SELECT model_key FROM model WHERE role = :role ORDER BY model_key FOR UPDATE"),
        {"role": role},
    )


def active(connection: Connection, role: Role) -> ModelRow:
    """The active model of a role; NotFoundError says which command makes one."""
    row = find_active(connection, role)
    if row is None:
        raise NotFoundError(
            f"there is no active {role}; run `python cli.py {MAKING_COMMANDS[role]}` first"
        )
    return row


def find_active(connection: Connection, role: Role) -> ModelRow | None:
    """The active model of a role; None where there is none."""
    row = connection.execute(
        text(f"{_SELECT} WHERE model.role = :role AND model.status = 'active'"), {"role": role}
    ).one_or_none()
    return None if row is None else _row(row)


def newest_candidate(connection: Connection, role: Role) -> ModelRow | None:
    """The newest candidate of a role that was registered after the active model; None: none."""
    row = connection.execute(
        text(
            f"{_SELECT} WHERE model.role = :role AND model.status = 'candidate' "  # noqa: S608
            "AND model.model_key > coalesce((SELECT max(model_key) FROM model "
            "WHERE role = :role AND status = 'active'), 0) "
            "ORDER BY model.model_key DESC LIMIT 1"
        ),
        {"role": role},
    ).one_or_none()
    return None if row is None else _row(row)


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


def _require_files(row: ModelRow) -> None:
    if row.files_removed is not None:
        raise NotFoundError(
            f"{row.model_id} cannot come back into use: retention removed its files on "
            f"{row.files_removed:%Y-%m-%d} (retention.retired_models); train a new {row.role}"
        )


_SELECT = (
    "SELECT model.model_id, model.role, parent.model_id AS parent, model.settings, "
    "model.data_fingerprint, model.metrics, model.sha256, model.status, model.code_version, "
    "model.seed, model.created, model.activated, model.files_removed "
    "FROM model LEFT JOIN model AS parent ON parent.model_key = model.parent"
)


def _row(row: Row[Any]) -> ModelRow:
    assert row.role in get_args(Role)
    return ModelRow(**row._mapping)
