"""The registry for people: which models there are, and which one is in use."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from recjob.errors import RefusedError
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import what_next
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.database import open_database
from recjob.store.embeddings import embedding_set
from recjob.store.gate import (
    Decision,
    database_user,
    decisions_of,
    last_decisions,
    record_decision,
)
from recjob.store.ledger import hold_lease
from recjob.store.models import (
    ModelRow,
    Status,
    activate,
    active,
    find_active,
    list_engines,
    list_models,
    lock_role,
    model,
    retire,
    take_back,
)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelSummary(_Answer):
    """A registered model."""

    model: str
    role: Role
    status: Status
    parent: str | None
    created: datetime
    files_removed: datetime | None
    """When retention removed its files, so that it cannot come back into use; None: never."""
    validation_auc: float | None
    gate: Decision | None
    """What the gate said last of a student; None: it was not asked."""


class ListedEngine(_Answer):
    """A file that `compile` made."""

    file: str
    kind: str
    target: str
    sha256: str
    created: datetime


class ListedDecision(_Answer):
    """A decision of the gate."""

    decision: Decision
    decided: datetime
    decided_by: str
    against: str | None
    run: int | None
    reason: str | None
    checks: tuple[dict[str, Any], ...]


class ModelDetails(ModelSummary):
    """All that the registry knows of a model."""

    activated: datetime | None
    """When it came into use; None: never, or a rollback took it out again."""
    data_fingerprint: str
    """sha256 of the catalog that it was trained on."""
    code_version: str
    seed: int
    sha256: str
    """Of the manifest of its files."""
    settings: dict[str, Any]
    metrics: dict[str, Any]
    engines: tuple[ListedEngine, ...]
    decisions: tuple[ListedDecision, ...]
    """The newest first."""


class StatusChange(JobResult):
    """A model whose place in the registry a person has changed."""

    model: str
    role: Role
    status: Status
    before: str | None
    """The model of its role that was active; None: none was."""
    forced: bool = False
    """Whether the gate had not passed it."""
    by: str
    """The user of the database who did it."""
    next: str
    """What to do now."""


def models(settings: Settings) -> tuple[ModelSummary, ...]:
    """All models, the newest first."""
    with open_database(settings) as database, database.connect() as connection:
        decisions = last_decisions(connection)
        return tuple(
            ModelSummary(**_summary(row), gate=decisions.get(row.model_id))
            for row in list_models(connection)
        )


def model_details(settings: Settings, name: str) -> ModelDetails:
    """A model by its id, or the active one of a role by its name; NotFoundError: there is none."""
    with open_database(settings) as database, database.connect() as connection:
        row = named_model(connection, name)
        engines = list_engines(connection, row.model_id)
        decisions = decisions_of(connection, row.model_id)
    return ModelDetails(
        **_summary(row),
        gate=decisions[0].decision if decisions else None,
        activated=row.activated,
        data_fingerprint=row.data_fingerprint,
        code_version=row.code_version,
        seed=row.seed,
        sha256=row.sha256,
        settings=row.settings,
        metrics=row.metrics,
        engines=tuple(
            ListedEngine(
                file=engine.file,
                kind=engine.kind,
                target=engine.target,
                sha256=engine.sha256,
                created=engine.created,
            )
            for engine in engines
        ),
        decisions=tuple(
            ListedDecision(
                decision=row.decision,
                decided=row.decided,
                decided_by=row.decided_by,
                against=row.against,
                run=row.run_id,
                reason=row.reason,
                checks=tuple(row.checks),
            )
            for row in decisions
        ),
    )


def named_model(connection: Connection, name: str) -> ModelRow:
    """A model by its id, or by a role: the active one. NotFoundError where there is none."""
    for role in get_args(Role):
        if name == role:
            return active(connection, role)
    return model(connection, name)


def promote(context: JobContext, model_id: str, force: bool = False) -> StatusChange:
    """Take a candidate or a retired model into use; the one before is retired.

    A student must have been in use before, or the gate must have passed it, or `force` is on record
    as a decision. Raises RefusedError where it did not, NotFoundError for an unknown model, and
    where its files are gone, DataError where they were changed.
    """
    with context.stage("promote"), context.database.begin() as connection:
        hold_lease(connection, context.run_id)
        role = model(connection, model_id).role
        lock_role(connection, role)
        row, before = model(connection, model_id), find_active(connection, role)
        context.artifacts.model(row.model_id, row.sha256)
        against = None if before is None else before.model_id
        forced = row.status != "active" and not _may_be_used(connection, row)
        if forced:
            reason = _last_word(connection, row)
            if not force:
                raise RefusedError(
                    f"{model_id} may not be used: {reason}; run `python cli.py gate`, or "
                    f"`models promote {model_id} --force`"
                )
            record_decision(
                connection,
                model_id,
                "forced",
                against=against,
                run_id=context.run_id,
                reason=f"promoted by hand: {reason}",
                checks=[],
            )
        row = activate(connection, model_id)
        by = database_user(connection)
        advice = _advice(connection, row)
    return StatusChange(
        model=model_id,
        role=role,
        status=row.status,
        before=against,
        forced=forced,
        by=by,
        next=advice,
    )


def retire_model(context: JobContext, model_id: str) -> StatusChange:
    """Retire a candidate; UserError for the model in use, NotFoundError for an unknown one."""
    with context.stage("retire"), context.database.begin() as connection:
        hold_lease(connection, context.run_id)
        row = retire(connection, model_id)
        in_use = find_active(connection, row.role)
        by = database_user(connection)
    return StatusChange(
        model=model_id,
        role=row.role,
        status=row.status,
        before=None if in_use is None else in_use.model_id,
        by=by,
        next=what_next(row),
    )


def roll_back(context: JobContext, role: Role) -> StatusChange:
    """Return to the model of a role that was in use before; again and again: further back.

    Raises NotFoundError where there was none, or its files are gone, DataError where they were
    changed.
    """
    with context.stage("roll back"), context.database.begin() as connection:
        hold_lease(connection, context.run_id)
        gone, row = take_back(connection, role)
        context.artifacts.model(row.model_id, row.sha256)
        by = database_user(connection)
        advice = _advice(connection, row)
    return StatusChange(
        model=row.model_id,
        role=role,
        status=row.status,
        before=gone.model_id,
        by=by,
        next=advice,
    )


def _may_be_used(connection: Connection, row: ModelRow) -> bool:
    """Whether a model was in use before, the gate passed it, or none asks about its role."""
    if row.role != "student" or row.activated is not None:
        return True
    return any(found.decision != "refused" for found in decisions_of(connection, row.model_id))


def _last_word(connection: Connection, row: ModelRow) -> str:
    decisions = decisions_of(connection, row.model_id)
    if not decisions:
        return "the gate has not looked at it"
    return f"the gate refused it ({decisions[0].reason})"


def _advice(connection: Connection, row: ModelRow) -> str:
    """What to do after a model came into use; of a student: which vectors are missing."""
    if row.role != "student":
        return what_next(row)
    held = embedding_set(connection, row.model_id)
    if held is None:
        return "it has no vectors: `python cli.py embed` computes all of them"
    also = (
        ""
        if held.loaded_sha256 is not None
        else " and brings the others back into the tables of Postgres"
    )
    return (
        f"`python cli.py embed` computes the vectors of what is new since its last run{also}; the "
        "published lists stay until the next `nightly-recommend` (`runs rollback` changes them now)"
    )


def _summary(row: ModelRow) -> dict[str, Any]:
    """The fields of `ModelSummary` but the gate's."""
    return {
        "model": row.model_id,
        "role": row.role,
        "status": row.status,
        "parent": row.parent,
        "created": row.created.replace(microsecond=0),
        "files_removed": row.files_removed and row.files_removed.replace(microsecond=0),
        "validation_auc": (row.metrics.get("validation") or {}).get("auc"),
    }
