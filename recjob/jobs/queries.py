"""What the command line asks of the database besides jobs: lists, runs, the schema."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from recjob.errors import NotFoundError
from recjob.jobs.metrics import tell_metrics
from recjob.jobs.runner import JOB_LOCKS
from recjob.settings import Settings
from recjob.store.database import downgrade_database, open_database, upgrade_database
from recjob.store.publication import publication_row, publish_kept, rollback
from recjob.store.recommendations import recommendations_of
from recjob.store.run_comparison import compare_runs
from recjob.store.run_queries import KeptRun, kept_run, list_runs, run_digest
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

    user: str | None
    """None: visitors without an id."""
    kind: Literal["warm", "cold", "stranger"]
    run: int
    outfits: tuple[ListedOutfit, ...]


class RunSummary(Answer):
    """A run whose recommendations are kept, and its lists by kind of user."""

    run: int
    shown: bool
    """Whether readers see it."""
    held: str | None
    """Why a limit kept it back."""
    started: datetime
    warm: int
    cold: int
    stranger: int


class RunDetails(RunSummary):
    """A kept run, and what it recommends as one number."""

    written: datetime
    model: str | None
    """Whose vectors were scored; None for a run of an older version."""
    k: int
    """Places of each list that readers see."""
    visitors: bool
    """Whether there is a list for visitors without an id."""
    places: int
    """Outfits in all lists of users, the spare ones that move up too."""
    statistics: dict[str, Any]
    """What the run counted."""
    digest: str
    """sha256 over user ids and their ordered outfit ids."""


class RunSide(Answer):
    """The places that users see of one of two compared runs."""

    run: int
    lists: int
    outfits: int
    """Different outfits."""
    coverage: float
    """Their share of all outfits in the catalog."""
    mean_score: float | None


class RunDiff(Answer):
    """What changed from one run to another, in the places that readers see."""

    before: RunSide
    after: RunSide
    users_gone: int
    """Users with a list in the first run only."""
    users_new: int
    users_reordered: int
    """Users who have the same outfits in another order."""
    users_changed: int
    """Users who have other outfits."""
    mean_overlap: float | None
    """Of users with two lists: outfits in both, as a share of the longer list's places."""
    outfits_gone: int
    outfits_new: int
    visitors_changed: bool
    """Whether the list for visitors without an id differs."""


class SchemaVersion(Answer):
    """What the database was migrated to."""

    version: str


def recommendations(settings: Settings, user: str | None) -> UserRecommendations:
    """The list of a user, or of visitors (None), as readers see it; NotFoundError: why none."""
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


def runs(settings: Settings) -> tuple[RunSummary, ...]:
    """The runs whose recommendations are kept, the newest first."""
    with open_database(settings) as database, database.connect() as connection:
        return tuple(RunSummary(**_summary(run)) for run in list_runs(connection))


def run_details(settings: Settings, run: int | None) -> RunDetails:
    """A kept run, None: the published one; NotFoundError where there is none."""
    with open_database(settings) as database, database.connect() as connection:
        # One snapshot: the digest is that of the run that was just found to be published.
        connection.execution_options(isolation_level="REPEATABLE READ")
        kept = kept_run(connection, _published(connection) if run is None else run)
        digest = run_digest(connection, kept.run_id)
    return RunDetails(
        **_summary(kept),
        written=kept.written.replace(microsecond=0),
        model=kept.parameters.get("model"),
        k=kept.shown,
        visitors=kept.visitors,
        places=kept.places,
        statistics=kept.statistics,
        digest=digest,
    )


def run_difference(settings: Settings, before: int | None, after: int | None) -> RunDiff:
    """Compare two kept runs; `after` None: the published one, `before` None: the one seen last.

    NotFoundError where there is none.
    """
    with open_database(settings) as database, database.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        if after is None:
            after = _published(connection)
        if before is None:
            current, previous = publication_row(connection)
            before = next((run for run in (*previous, current) if run not in (None, after)), None)
            if before is None:
                raise NotFoundError(f"no run to compare run {after} with: readers saw no other")
        found = compare_runs(connection, before, after)
    sides = {
        name: RunSide(run=side.run_id, **_without(asdict(side), "run_id"))
        for name, side in (("before", found.before), ("after", found.after))
    }
    return RunDiff(**sides, **_without(asdict(found), "before", "after"))


def publish_run(settings: Settings, run: int) -> RunSummary:
    """Show a kept run, also one that a limit held back; NotFoundError where it is not kept."""
    with open_database(settings) as database:
        publish_kept(database, run)
        tell_metrics(settings, database, JOB_LOCKS)
        with database.connect() as connection:
            return RunSummary(**_summary(kept_run(connection, run)))


def show_earlier_run(settings: Settings, to: int | None) -> RunSummary:
    """Show run `to` again, or without it the one before; NotFoundError where there is none."""
    with open_database(settings) as database:
        target = rollback(database, to)
        tell_metrics(settings, database, JOB_LOCKS)
        with database.connect() as connection:
            return RunSummary(**_summary(kept_run(connection, target)))


def upgrade_schema(settings: Settings) -> SchemaVersion:
    """Migrate the database to this version's schema."""
    upgrade_database(settings)
    return SchemaVersion(version=code_version())


def downgrade_schema(settings: Settings, revision: str) -> SchemaVersion:
    """Migrate the database down to `revision`; "base" leaves nothing."""
    downgrade_database(settings, revision)
    return SchemaVersion(version=revision)


def _published(connection: Connection) -> int:
    current, _ = publication_row(connection)
    if current is None:
        raise NotFoundError("no run is published; run `python cli.py nightly-recommend` first")
    return current


def _summary(run: KeptRun) -> dict[str, Any]:
    """The fields of `RunSummary`."""
    return {
        "run": run.run_id,
        "shown": run.current,
        "held": run.held,
        "started": run.started.replace(microsecond=0),
        **run.users,
    }


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
