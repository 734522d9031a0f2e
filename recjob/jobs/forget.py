"""Job `forget USER`: everything about a user goes, and imports leave the user out from then on.

One transaction writes the tombstone, deletes the rows, and registers the models' files without the
user, which were prepared before. Nothing is gone until then; what is still to do afterwards any
later `forget` of the same user does. Neither the ledger nor a log names the user.
"""

from __future__ import annotations

from typing import Final

from recjob.errors import UserError
from recjob.jobs.forgotten_files import (
    drop_checkpoints,
    drop_night,
    drop_report,
    drop_unregistered,
    forgotten_in,
    prepare_model,
    redact_logs,
    settle_model,
)
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.store.forgotten import forget_user, is_forgotten
from recjob.store.ledger import hold_lease
from recjob.store.mentions import Mentions, redact_texts
from recjob.store.models import list_models, replace_sha256

NEXT_NIGHT: Final = "the next night makes lists without the user"


class ForgetResult(JobResult):
    """What was deleted."""

    found: bool
    """Whether the database knew the user."""
    forgotten_before: bool
    """Whether an earlier `forget` wrote the tombstone; then this one finished what it left."""
    rows: dict[str, int]
    """Rows deleted, by table."""
    texts: int
    """Rows of the ledger, the schedule and the gate that named the user, and no longer do."""
    models: int
    """Models that had a vector of the user."""
    checkpoints: tuple[str, ...]
    """Trainings that were cut short and begin anew: their state held the user's vector."""
    night: bool
    """Whether finished shards of a night that was cut short were removed."""
    report: bool
    """Whether the page showed the user and was removed; `report` writes it anew."""
    logs: int
    """Log files that named the user, and no longer do."""
    note: str


def forget(context: JobContext, user_id: str) -> ForgetResult:
    """Delete all about a user; a user who was never there gets a tombstone all the same.

    Raises UserError for what cannot be a user's id, DataError where a model's files are damaged:
    then nothing is deleted.
    """
    settings = context.settings
    _check(user_id)
    mentions = Mentions(user_id)
    with context.stage("models") as stage:
        with context.database.connect() as connection:
            rows = [row for row in list_models(connection) if row.files_removed is None]
            before = is_forgotten(connection, user_id)
        prepared: dict[str, str] = {}
        for row in rows:
            if leave_out := forgotten_in(context, row.model_id, user_id):
                sha256 = prepare_model(context, row, leave_out)
                if sha256 is not None:
                    prepared[row.model_id] = sha256
        stage.items = len(prepared)
    with context.stage("database") as stage, context.database.begin() as connection:
        deleted = forget_user(connection, user_id)
        texts = redact_texts(connection, user_id)
        for model_id, sha256 in prepared.items():
            replace_sha256(connection, model_id, sha256)
        hold_lease(connection, context.run_id)
        stage.items = sum(deleted.values())
    with context.stage("files"):
        known = bool(deleted) or before
        checkpoints = drop_checkpoints(settings) if known else []
        night = known and drop_night(context)
        report = drop_report(settings, mentions)
        logs = redact_logs(settings, mentions)
        changed = {
            row.model_id
            for row in rows
            if settle_model(context, row.model_id, prepared.get(row.model_id, row.sha256))
        }
        with context.database.connect() as connection:
            registered = [row.model_id for row in list_models(connection)]
        removed = drop_unregistered(context, registered, user_id)
    result = ForgetResult(
        found=bool(deleted),
        forgotten_before=before,
        rows=deleted,
        texts=texts,
        models=len(changed | prepared.keys()) + len(removed),
        checkpoints=tuple(checkpoints),
        night=night,
        report=report,
        logs=logs,
        note="",
    )
    return result.model_copy(update={"note": _note(result)})


def _check(user_id: str) -> None:
    """Raise UserError, which does not repeat it, for what no import takes as an id."""
    try:
        usable = user_id.strip() != "" and "\0" not in user_id and bool(user_id.encode())
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UserError("that cannot be the id of a user; give it as it is in the shop's export")


def _note(result: ForgetResult) -> str:
    if result.found:
        return f"the user is forgotten, and imports leave the user out; {NEXT_NIGHT}"
    left = result.texts + result.models + len(result.checkpoints) + result.logs
    something = bool(left or result.night or result.report)
    if result.forgotten_before and something:
        return "the user was forgotten before; what that had left is gone now"
    if result.forgotten_before:
        return "the user was forgotten before; there was nothing left"
    if something:
        return (
            "the catalog did not know the user; what else named the user no longer does, and "
            "imports leave the user out from now on"
        )
    return "nothing was known of this user; imports leave the user out from now on"
