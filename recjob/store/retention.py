"""What of the database has become old: models whose files may go, and rows of the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from recjob.store.artifacts import Role
from recjob.store.models import Status


@dataclass(frozen=True)
class OldModel:
    """A model whose files are kept no longer."""

    model_id: str
    role: Role
    status: Status


def old_models(
    connection: Connection, retired_models: int, candidates_before: datetime
) -> list[OldModel]:
    """Models beyond the `retired_models` of their role that were in use last, and old candidates.

    Never one in use, nor the newest candidate of a role, nor the teacher of a student that is
    kept: the gate asks it how well its student agrees.
    """
    rows = connection.execute(
        text(
            """
            WITH ranked AS (
                SELECT *,
                    row_number() OVER (
                        PARTITION BY role, status
                        ORDER BY activated DESC NULLS LAST, model_key DESC
                    ) AS place,
                    model_key = max(model_key) OVER (PARTITION BY role, status) AS newest
                FROM model WHERE files_removed IS NULL
            ), old AS (
                SELECT * FROM ranked
                WHERE (status = 'retired' AND place > :retired)
                OR (status = 'candidate' AND NOT newest AND created < :before)
            )
            SELECT model_id, role, status FROM old
            WHERE NOT EXISTS (
                SELECT FROM ranked AS kept
                WHERE kept.parent = old.model_key AND kept.role = 'student'
                AND kept.model_key NOT IN (SELECT model_key FROM old)
            )
            ORDER BY model_key
            """
        ),
        {"retired": retired_models, "before": candidates_before},
    )
    return [OldModel(**row._mapping) for row in rows]


def models_without_files(connection: Connection) -> list[str]:
    """Ids of the models whose files retention has removed, or was about to when it was killed."""
    rows = connection.scalars(
        text("SELECT model_id FROM model WHERE files_removed IS NOT NULL ORDER BY model_key")
    )
    return list(rows)


def drop_schedule_rows(connection: Connection, before: datetime) -> int:
    """Delete what ended before `before` of the scheduler's rows, but each entry's newest."""
    return int(
        connection.execute(
            text("SELECT drop_schedule_rows(:before)"), {"before": before}
        ).scalar_one()
    )
