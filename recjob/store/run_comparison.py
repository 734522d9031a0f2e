"""Two kept runs side by side, counted in Postgres: nothing of their lists is held here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from recjob.store.run_lists import VISITOR_KEY
from recjob.store.run_queries import kept_run

USERS_AT_A_TIME = 100_000
"""User keys joined in one statement, so that its sorts and joins stay small in the server too."""


@dataclass(frozen=True)
class RunShape:
    """What the shown places of a run's users hold."""

    run_id: int
    lists: int
    outfits: int
    """Different outfits."""
    coverage: float
    """Their share of all outfits in the catalog."""
    mean_score: float | None
    """Over all shown places; None where there is none."""


@dataclass(frozen=True)
class RunDifference:
    """What changed from one run to another; only the places that readers see."""

    before: RunShape
    after: RunShape
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
    """Outfits in a list of the first run and in none of the second."""
    outfits_new: int
    visitors_changed: bool
    """Whether the list for visitors without an id differs, also in order."""


def compare_runs(connection: Connection, before: int, after: int) -> RunDifference:
    """Compare two kept runs; NotFoundError where one is not kept."""
    for run_id in (before, after):
        kept_run(connection, run_id)
    runs = {"before": before, "after": after}
    last = connection.scalar(
        text("SELECT max(user_key) FROM recommendation WHERE run_id IN (:before, :after)"), runs
    )
    users = {"both": 0, "gone": 0, "new": 0, "other_order": 0, "changed": 0, "overlap": 0.0}
    for first in range(1, (last or 0) + 1, USERS_AT_A_TIME):
        row = connection.execute(
            _USERS, {**runs, "first": first, "stop": first + USERS_AT_A_TIME}
        ).one()
        for name, count in row._mapping.items():
            users[name] += count
    outfits_gone, outfits_new = connection.execute(_OUTFITS, runs).one()
    return RunDifference(
        before=_shape(connection, before),
        after=_shape(connection, after),
        users_gone=int(users["gone"]),
        users_new=int(users["new"]),
        users_reordered=int(users["other_order"] - users["changed"]),
        users_changed=int(users["changed"]),
        mean_overlap=users["overlap"] / users["both"] if users["both"] else None,
        outfits_gone=outfits_gone,
        outfits_new=outfits_new,
        visitors_changed=bool(connection.execute(_VISITORS, runs).scalar_one()),
    )


def _shape(connection: Connection, run_id: int) -> RunShape:
    row = connection.execute(_SHAPE, {"run": run_id}).one()
    return RunShape(
        run_id=run_id,
        lists=row.lists,
        outfits=row.outfits,
        coverage=row.outfits / row.catalog if row.catalog else 0.0,
        mean_score=row.mean_score,
    )


_OUTFIT_LISTS = (
    "SELECT {} outfit_keys[1:shown] AS outfits "
    "FROM recommendation JOIN recommendation_run USING (run_id)"
)
_LISTS = _OUTFIT_LISTS.format("user_key, scores[1:shown] AS scores,")

_USERS = text(f"""
WITH one AS ({_LISTS} WHERE run_id = :before AND user_key >= :first AND user_key < :stop),
two AS ({_LISTS} WHERE run_id = :after AND user_key >= :first AND user_key < :stop)
SELECT
    count(*) FILTER (WHERE one.user_key = two.user_key) AS both,
    count(*) FILTER (WHERE two.user_key IS NULL) AS gone,
    count(*) FILTER (WHERE one.user_key IS NULL) AS new,
    count(*) FILTER (WHERE one.outfits <> two.outfits) AS other_order,
    count(*) FILTER (WHERE NOT (one.outfits <@ two.outfits AND two.outfits <@ one.outfits))
        AS changed,
    coalesce(sum(CASE
        WHEN one.user_key IS NULL OR two.user_key IS NULL THEN 0
        WHEN one.outfits = two.outfits THEN 1
        ELSE (SELECT count(*) FROM unnest(one.outfits) AS place WHERE place = ANY (two.outfits))
            / greatest(cardinality(one.outfits), cardinality(two.outfits))::float
    END), 0)::float AS overlap
FROM one FULL JOIN two USING (user_key)
""")  # noqa: S608

_VISITORS = text(f"""
SELECT ({_OUTFIT_LISTS.format("")} WHERE run_id = :before AND user_key = {VISITOR_KEY})
    IS DISTINCT FROM
    ({_OUTFIT_LISTS.format("")} WHERE run_id = :after AND user_key = {VISITOR_KEY})
""")  # noqa: S608

_OUTFITS = text(f"""
WITH one AS (SELECT DISTINCT unnest(outfits) AS outfit
    FROM ({_LISTS} WHERE run_id = :before AND user_key <> {VISITOR_KEY}) AS lists),
two AS (SELECT DISTINCT unnest(outfits) AS outfit
    FROM ({_LISTS} WHERE run_id = :after AND user_key <> {VISITOR_KEY}) AS lists)
SELECT count(*) FILTER (WHERE two.outfit IS NULL), count(*) FILTER (WHERE one.outfit IS NULL)
FROM one FULL JOIN two USING (outfit)
""")  # noqa: S608

_SHAPE = text(f"""
WITH list AS NOT MATERIALIZED ({_LISTS} WHERE run_id = :run AND user_key <> {VISITOR_KEY})
SELECT
    (SELECT count(*) FROM list) AS lists,
    (SELECT count(DISTINCT place.outfit) FROM list, unnest(list.outfits) AS place (outfit))
        AS outfits,
    (SELECT avg(place.score::float) FROM list, unnest(list.scores) AS place (score))
        AS mean_score,
    (SELECT count(*) FROM outfit) AS catalog
""")  # noqa: S608
