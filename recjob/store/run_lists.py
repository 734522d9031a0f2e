"""The lists of a run: what they are, how they get into their partition, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from recjob.catalog.catalog import PADDING, BoolArray, Float32Array, Int32Array
from recjob.errors import RefusedError
from recjob.store.bulk import copy_rows_in, encode
from recjob.store.catalog_store import CatalogKeys

Kind = Literal["warm", "cold", "stranger"]
KINDS: tuple[Kind, ...] = ("warm", "cold", "stranger")
"""How a user was served; `RunLists.kinds` are indices into this."""
VISITOR: Final = -1
"""In `RunLists.users` the row for visitors without an id, whose kind is stranger."""
VISITOR_KEY: Final = 0
"""Their user_key in the database; keys of users begin at 1."""
COLUMNS: Final = ("run_id", "user_key", "kind", "outfit_keys", "scores")
ENCODED_USERS: Final = 8192
"""Lists checked and encoded at a time, while those before are sent: some 4 MB of 30 places."""


@dataclass(frozen=True)
class RunLists:
    """What a run recommends, or a shard of it; all indices are the catalog's."""

    users: Int32Array
    """(U,); VISITOR for visitors without an id"""
    kinds: Int32Array
    """(U,) index into `KINDS`."""
    outfits: Int32Array
    """(U, K), best first; a list that is shorter ends with PADDING."""
    scores: Float32Array
    """(U, K); whatever where `outfits` is PADDING."""
    ordered: bool = True
    """Scores fall along each list; False where something re-ranked them."""


@dataclass(frozen=True)
class LoadedLists:
    """What went into a partition."""

    lists: int
    places: int


def check_lists(lists: RunLists) -> None:
    """What can be seen without the database; RefusedError names the first bad list.

    Not whether a user has two lists, which may be in different shards: the primary key tells.
    """
    shape = lists.outfits.shape
    if len(shape) != 2 or lists.scores.shape != shape:
        raise ValueError(f"outfits of shape {shape}, scores of shape {lists.scores.shape}")
    if not lists.users.shape == lists.kinds.shape == shape[:1]:
        raise ValueError(f"{shape[0]} lists, {len(lists.users)} users, {len(lists.kinds)} kinds")
    real = lists.outfits != PADDING
    _refuse(lists, real[:, 1:] > real[:, :-1], "has a gap")
    _refuse(lists, real & ~np.isfinite(lists.scores), "has a score that is no number")
    if lists.ordered:
        rises = (lists.scores[:, 1:] > lists.scores[:, :-1]) & real[:, 1:]
        _refuse(lists, rises, "has scores that rise")
    ranked = np.sort(lists.outfits, axis=1)
    twice = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] != PADDING)
    _refuse(lists, twice, "has an outfit twice")


def encode_lists(run_id: int, keys: CatalogKeys, lists: RunLists) -> list[NDArray[np.uint8]]:
    """The lists as rows of COPY BINARY in chunks, after the checks that need no database."""
    check_lists(lists)
    lengths = np.count_nonzero(lists.outfits != PADDING, axis=1)
    known = lists.users != VISITOR
    user_keys = np.full(len(known), VISITOR_KEY, np.int32)
    user_keys[known] = keys.users[lists.users[known]]
    result: list[NDArray[np.uint8]] = []
    # Lists of one length and kind are rows of one width, which is the fast way in.
    groups = lengths * len(KINDS) + lists.kinds
    sizes = np.bincount(groups)
    for group in np.flatnonzero(sizes).tolist():
        length, kind = divmod(group, len(KINDS))
        size = int(sizes[group])
        rows = slice(None) if size == len(groups) else np.flatnonzero(groups == group)
        columns: dict[str, Any] = {
            "run_id": np.full(size, run_id, np.int32),
            "user_key": user_keys[rows],
            "kind": np.full(size, KINDS[kind].encode()),
            "outfit_keys": keys.outfits[lists.outfits[rows][:, :length]],
            "scores": lists.scores[rows][:, :length].astype(np.float32, copy=False),
        }
        result += encode([columns[name] for name in COLUMNS])
    return result


def copy_lists(
    connection: Connection, run_id: int, keys: CatalogKeys, shards: Iterable[RunLists]
) -> LoadedLists:
    """Check and COPY the shards into the run's partition, made in this transaction, in one stream.

    Only some lists are held at a time beside the shard that they are of. A shard is taken from
    `shards` in the caller's thread; the next lists are encoded while libpq sends those before.
    """
    sent = [0, 0]

    def chunks() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(1, "encode") as pool:
            ahead: Future[list[NDArray[np.uint8]]] | None = None
            for piece in _pieces(shards):
                sent[0] += len(piece.users)
                sent[1] += int(np.count_nonzero(piece.outfits != PADDING))
                following = pool.submit(encode_lists, run_id, keys, piece)
                if ahead is not None:
                    yield from ahead.result()
                ahead = following
            if ahead is not None:
                yield from ahead.result()

    copy_rows_in(connection, partition_name(run_id), COLUMNS, chunks(), freeze=True)
    return LoadedLists(*sent)


def check_partition(
    connection: Connection, run_id: int, loaded: LoadedLists, exclude_seen: bool
) -> None:
    """What only the database can see; RefusedError names the first bad thing."""
    partition = partition_name(run_id)
    rows, places = connection.execute(
        text(f"SELECT count(*), coalesce(sum(cardinality(outfit_keys)), 0) FROM {partition}")  # noqa: S608
    ).one()
    if (rows, places) != (loaded.lists, loaded.places):
        raise RefusedError(f"run {run_id}: {rows} lists arrived instead of {loaded.lists}")
    checks = {
        "user {0!r} has no list": "SELECT user_id FROM app_user WHERE NOT EXISTS "
        "(SELECT FROM {partition} AS run WHERE run.user_key = app_user.user_key)",
        "a list is for nobody (user_key {0})": "SELECT user_key FROM {partition} AS run "
        "WHERE user_key <> {visitor} AND NOT EXISTS "
        "(SELECT FROM app_user WHERE app_user.user_key = run.user_key)",
        "an outfit does not exist (outfit_key {0})": "SELECT outfit_key FROM "
        "(SELECT DISTINCT unnest(outfit_keys) AS outfit_key FROM {partition}) AS listed "
        "WHERE NOT EXISTS (SELECT FROM outfit WHERE outfit.outfit_key = listed.outfit_key)",
        "outfit {0!r} is not available": "SELECT outfit_id FROM "
        "(SELECT DISTINCT unnest(outfit_keys) AS outfit_key FROM {partition}) AS listed "
        "JOIN outfit USING (outfit_key) WHERE NOT outfit.available OR EXISTS "
        "(SELECT FROM outfit_item JOIN item USING (item_key) "
        "WHERE outfit_item.outfit_key = outfit.outfit_key "
        "AND (NOT item.available OR item.quarantine_reason IS NOT NULL))",
    }
    if exclude_seen:
        checks["user {0!r} has already liked a recommended outfit"] = (
            "SELECT user_id FROM {partition} AS run "
            "CROSS JOIN LATERAL unnest(outfit_keys) AS listed (outfit_key) "
            "JOIN interaction ON interaction.user_key = run.user_key "
            "AND interaction.outfit_key = listed.outfit_key "
            "JOIN app_user ON app_user.user_key = run.user_key"
        )
    for what, template in checks.items():
        query = template.format(partition=partition, visitor=VISITOR_KEY)
        bad = connection.execute(text(query + " ORDER BY 1 LIMIT 1"))
        row = bad.one_or_none()
        if row is not None:
            raise RefusedError(f"run {run_id}: {what.format(row[0])}; nothing was published")


def call_partition_function(connection: Connection, action: str, run_id: int) -> None:
    """Let the owner create, seal, attach or drop the partition of a run (migration 0004)."""
    connection.execute(
        text(f"SELECT {action}_recommendation_partition(:run_id)"), {"run_id": run_id}
    )


def partition_name(run_id: int) -> str:
    """The table of a run's lists, attached to `recommendation` when the run is kept."""
    return f"recommendation_run_{run_id:d}"


def _pieces(shards: Iterable[RunLists]) -> Iterator[RunLists]:
    """The shards in parts of at most `ENCODED_USERS`, without copying."""
    for shard in shards:
        if len(shard.users) <= ENCODED_USERS:
            yield shard
            continue
        for start in range(0, len(shard.users), ENCODED_USERS):
            part = slice(start, start + ENCODED_USERS)
            yield replace(
                shard,
                users=shard.users[part],
                kinds=shard.kinds[part],
                outfits=shard.outfits[part],
                scores=shard.scores[part],
            )


def _refuse(lists: RunLists, bad: BoolArray, what: str) -> None:
    """`bad` (U, n): wrong places of each list."""
    if bad.any():
        wrong = bad.any(axis=1)
        raise RefusedError(
            f"{int(wrong.sum())} of {len(bad)} lists are wrong; that of user number "
            f"{int(lists.users[wrong.argmax()])} {what}; nothing was published"
        )
