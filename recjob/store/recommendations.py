"""A user's recommendations as readers see them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from recjob.errors import NotFoundError
from recjob.store.publication import publication_row
from recjob.store.run_lists import VISITOR_KEY, Kind


@dataclass(frozen=True)
class RecommendedItem:
    """An item of a recommended outfit."""

    item_id: str
    category: str
    image: str


@dataclass(frozen=True)
class RecommendedOutfit:
    """A place of a user's list."""

    rank: int
    outfit_id: str
    score: float
    items: tuple[RecommendedItem, ...]


@dataclass(frozen=True)
class UserList:
    """What readers see for a user."""

    user_id: str | None
    """None: visitors without an id."""
    run_id: int
    kind: Kind
    outfits: tuple[RecommendedOutfit, ...]


def users_shown(connection: Connection, kind: Kind) -> list[str]:
    """Ids, ascending, of the users of a kind who have a list in the run that readers see."""
    rows = connection.execute(
        text(
            "SELECT user_id FROM recommendation JOIN app_user USING (user_key) "
            "WHERE run_id = (SELECT current_run FROM publication) AND kind = :kind "
            "ORDER BY user_id"
        ),
        {"kind": kind},
    )
    return list(rows.scalars())


def recommendations_of(connection: Connection, user_id: str | None) -> UserList:
    """A user's list as readers see it, or that of visitors without an id (None).

    NotFoundError says why there is none.
    """
    whose, values = "user_id = :user_id", {"user_id": user_id}
    if user_id is None:
        whose, values = "user_id IS NULL", {}
    rows = connection.execute(text(_LIST.format(whose=whose)), values).all()
    run, kind = _served(connection, user_id, rows[0].run if rows else None)
    outfits = tuple(
        RecommendedOutfit(
            row.rank,
            row.outfit_id,
            row.score,
            tuple(
                RecommendedItem(*item)
                for item in zip(row.item_ids, row.categories, row.images, strict=True)
            ),
        )
        for row in rows
    )
    return UserList(user_id, run, kind, outfits)


_LIST = (
    "SELECT rank, outfit_id, score, run, array_agg(item_id ORDER BY place) AS item_ids, "
    "array_agg(category ORDER BY place) AS categories, "
    "array_agg(item.image ORDER BY place) AS images "
    "FROM current_recommendation JOIN outfit USING (outfit_id) "
    "JOIN outfit_item USING (outfit_key) JOIN item USING (item_key) "
    "WHERE {whose} GROUP BY rank, outfit_id, score, run ORDER BY rank"
)


def _served(connection: Connection, user_id: str | None, run: int | None) -> tuple[int, Kind]:
    """The run that the list is of (`run`; None: an empty list of the current one), and the kind."""
    if run is None:
        run, _ = publication_row(connection)
    if run is None:
        raise NotFoundError("no run is published; run `python cli.py nightly-recommend` first")
    user_key = VISITOR_KEY
    if user_id is not None:
        user_key = connection.scalar(
            text("SELECT user_key FROM app_user WHERE user_id = :user_id"), {"user_id": user_id}
        )
    if user_key is None:
        raise NotFoundError(f"no user {user_id!r}; users come with `python cli.py import`")
    kind = connection.scalar(
        text("SELECT kind FROM recommendation WHERE run_id = :run AND user_key = :key"),
        {"run": run, "key": user_key},
    )
    if kind is None:
        who = "the list for visitors" if user_id is None else f"user {user_id!r}"
        raise NotFoundError(f"{who} came after run {run}; run `python cli.py nightly-recommend`")
    return run, kind
