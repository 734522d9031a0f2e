"""Whether a model would learn anything new: `--if-changed` of the trainings, and the scheduler."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from recjob.jobs.model_record import recorded_settings
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult, SkippedResult
from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.data_growth import LEARNS_FROM, last_trained, share_added_since
from recjob.store.models import MAKING_COMMANDS, ModelRow, find_active
from recjob.training.checkpoint import WITHOUT_EFFECT


def only_if_changed(
    job: str, training: Callable[[JobContext], JobResult]
) -> Callable[[JobContext], JobResult]:
    """The training of this command, skipped where `why_not` says that it would change little."""
    role = next(role for role, command in MAKING_COMMANDS.items() if command == job)

    def body(context: JobContext) -> JobResult:
        with context.stage("compare"), context.database.connect() as connection:
            reason = why_not(connection, role, context.settings)
        return training(context) if reason is None else SkippedResult(skipped=reason)

    return body


def why_not(connection: Connection, role: Role, settings: Settings) -> str | None:
    """Why a training of this role would change little; None where it is worth it.

    It is worth it where there is no model yet, enough data are new, or the last model was trained
    with other settings or from another parent than the next one would be.
    """
    trained = last_trained(connection, role)
    if trained is None or _other_settings(trained, settings):
        return None
    if _other_parent(connection, trained, settings):
        return None
    change = share_added_since(connection, trained)
    if change >= settings.retraining.min_change:
        return None
    return (
        f"{change:.2%} of the {LEARNS_FROM[role]} are new since {trained.model_id} was trained, "
        f"less than retraining.min_change ({settings.retraining.min_change:.2%})"
    )


def _other_settings(trained: ModelRow, settings: Settings) -> bool:
    """Whether anything that the model's record tells of the settings is different now.

    What an older version did not record counts as the same.
    """
    now = recorded_settings(trained.role, settings)
    return any(
        trained.settings[name] != value
        for name, value in now.items()
        if name in trained.settings and name not in WITHOUT_EFFECT
    )


def _other_parent(connection: Connection, trained: ModelRow, settings: Settings) -> bool:
    """Whether the next model would learn from another teacher, or begin as another autoencoder."""
    if trained.role == "autoencoder":
        return False
    if trained.role == "teacher" and settings.teacher.weights != "autoencoder":
        return False
    parent = find_active(connection, "teacher" if trained.role == "student" else "autoencoder")
    if parent is None or parent.model_id == trained.parent:
        return False
    # One that came without its parent may have had this one, unless it is younger.
    return trained.parent is not None or parent.created > trained.created
