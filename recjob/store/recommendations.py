"""A user's recommendations as readers see them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from recjob.errors import NotFoundError
from recjob.store.publication import publication_row
from recjob.store.run_lists import Kind


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

    user_id: str
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


def recommendations_of(connection: Connection, user_id: str) -> UserList:
    """A user's list as readers see it; NotFoundError says why there is none."""
    current, _ = publication_row(connection)
    if current is None:
        raise NotFoundError("no run is published; run `python cli.py nightly-recommend` first")
    user_key = connection.scalar(
        text("SELECT user_key FROM app_user WHERE user_id = :user_id"), {"user_id": user_id}
    )
    if user_key is None:
        raise NotFoundError(f"no user {user_id!r}; users come with `python cli.py import`")
    kind = connection.scalar(
        text("SELECT kind FROM recommendation WHERE run_id = :run AND user_key = :key"),
        {"run": current, "key": user_key},
    )
    if kind is None:
        raise NotFoundError(
            f"user {user_id!r} came after run {current}; run `python cli.py nightly-recommend`"
        )
    rows = connection.execute(
        text(
            "SELECT rank, outfit_id, score, array_agg(item_id ORDER BY place) AS item_ids, "
            "array_agg(category ORDER BY place) AS categories, "
            "array_agg(item.image ORDER BY place) AS images "
            "FROM current_recommendation JOIN outfit USING (outfit_id) "
            "JOIN outfit_item USING (outfit_key) JOIN item USING (item_key) "
            "WHERE user_id = :user_id GROUP BY rank, outfit_id, score ORDER BY rank"
        ),
        {"user_id": user_id},
    )
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
    return UserList(user_id, current, kind, outfits)
