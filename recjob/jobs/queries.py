"""What the command line asks of the database besides jobs: lists, models, runs, the schema."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from recjob.settings import Settings
from recjob.store.artifacts import Role
from recjob.store.database import downgrade_database, open_database, upgrade_database
from recjob.store.models import Status, list_models
from recjob.store.publication import PublishedRun, list_runs, rollback
from recjob.store.recommendations import recommendations_of
from recjob.store.schema import code_version


class Answer(BaseModel):
    """What a query returns."""

    model_config = ConfigDict(frozen=True)


class ListedItem(Answer):
    """An item of a recommended outfit."""

    item: str
    category: str


class ListedOutfit(Answer):
    """A place of a user's list."""

    rank: int
    score: float
    outfit: str
    items: tuple[ListedItem, ...]


class UserRecommendations(Answer):
    """What readers see for a user."""

    user: str
    kind: Literal["warm", "cold", "stranger"]
    run: int
    outfits: tuple[ListedOutfit, ...]


class ModelSummary(Answer):
    """A registered model."""

    model: str
    role: Role
    status: Status
    parent: str | None
    created: datetime
    validation_auc: float | None


class RunSummary(Answer):
    """A run whose recommendations are kept, and its lists by kind of user."""

    run: int
    shown: bool
    """Whether readers see it."""
    started: datetime
    warm: int
    cold: int
    stranger: int


class SchemaVersion(Answer):
    """What the database was migrated to."""

    version: str


def recommendations(settings: Settings, user: str) -> UserRecommendations:
    """A user's list as readers see it; NotFoundError says why there is none."""
    with open_database(settings) as database, database.connect() as connection:
        served = recommendations_of(connection, user)
    return UserRecommendations(
        user=served.user_id,
        kind=served.kind,
        run=served.run_id,
        outfits=tuple(
            ListedOutfit(
                rank=outfit.rank,
                score=outfit.score,
                outfit=outfit.outfit_id,
                items=tuple(
                    ListedItem(item=item.item_id, category=item.category) for item in outfit.items
                ),
            )
            for outfit in served.outfits
        ),
    )


def models(settings: Settings) -> tuple[ModelSummary, ...]:
    """All models, the newest first."""
    with open_database(settings) as database, database.connect() as connection:
        rows = list_models(connection)
    return tuple(
        ModelSummary(
            model=row.model_id,
            role=row.role,
            status=row.status,
            parent=row.parent,
            created=row.created.replace(microsecond=0),
            validation_auc=(row.metrics.get("validation") or {}).get("auc"),
        )
        for row in rows
    )


def runs(settings: Settings) -> tuple[RunSummary, ...]:
    """The runs whose recommendations are kept, the newest first."""
    with open_database(settings) as database, database.connect() as connection:
        return tuple(_summary(run) for run in list_runs(connection))


def show_earlier_run(settings: Settings, to: int | None) -> RunSummary:
    """Show run `to` again, or without it the one before; NotFoundError where there is none."""
    with open_database(settings) as database:
        return _summary(rollback(database, to))


def upgrade_schema(settings: Settings) -> SchemaVersion:
    """Migrate the database to this version's schema."""
    upgrade_database(settings)
    return SchemaVersion(version=code_version())


def downgrade_schema(settings: Settings, revision: str) -> SchemaVersion:
    """Migrate the database down to `revision`; "base" leaves nothing."""
    downgrade_database(settings, revision)
    return SchemaVersion(version=revision)


def _summary(run: PublishedRun) -> RunSummary:
    return RunSummary(
        run=run.run_id,
        shown=run.current,
        started=run.started.replace(microsecond=0),
        **{kind: run.users.get(kind, 0) for kind in ("warm", "cold", "stranger")},
    )
