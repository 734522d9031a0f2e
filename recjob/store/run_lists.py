"""The lists of a run: what they are, how they are loaded into their partition, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, text

from recjob.catalog.catalog import PADDING, BoolArray, Float32Array, Int32Array
from recjob.errors import RefusedError
from recjob.store.bulk import copy_in
from recjob.store.catalog_store import CatalogKeys

Kind = Literal["warm", "cold", "stranger"]
KINDS: tuple[Kind, ...] = ("warm", "cold", "stranger")
"""How a user was served; `RunLists.kinds` are indices into this."""


@dataclass(frozen=True)
class RunLists:
    """What a run recommends; all indices are the catalog's."""

    users: Int32Array
    """(U,)"""
    kinds: Int32Array
    """(U,) index into `KINDS`."""
    outfits: Int32Array
    """(U, K), best first; a list that is shorter ends with PADDING."""
    scores: Float32Array
    """(U, K); whatever where `outfits` is PADDING."""
    ordered: bool = True
    """Scores fall along each list; False where something re-ranked them."""


def check_lists(lists: RunLists) -> None:
    """What can be seen without the database; RefusedError names the first bad list."""
    shape = lists.outfits.shape
    if len(shape) != 2 or lists.scores.shape != shape:
        raise ValueError(f"outfits of shape {shape}, scores of shape {lists.scores.shape}")
    if not lists.users.shape == lists.kinds.shape == shape[:1]:
        raise ValueError(f"{shape[0]} lists, {len(lists.users)} users, {len(lists.kinds)} kinds")
    real = lists.outfits != PADDING
    _refuse(lists, (real[:, 1:] & ~real[:, :-1]).any(axis=1), "has a gap")
    _refuse(lists, (real & ~np.isfinite(lists.scores)).any(axis=1), "has a score that is no number")
    if lists.ordered:
        rises = (lists.scores[:, 1:] > lists.scores[:, :-1]) & real[:, 1:]
        _refuse(lists, rises.any(axis=1), "has scores that rise")
    ranked = np.sort(lists.outfits, axis=1)
    twice = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] != PADDING)
    _refuse(lists, twice.any(axis=1), "has an outfit twice")
    if len(np.unique(lists.users)) != len(lists.users):
        raise RefusedError("the run has two lists for one user; nothing was published")


def load_lists(connection: Connection, run_id: int, keys: CatalogKeys, lists: RunLists) -> None:
    """Make the run's partition in this transaction and fill it; errors roll both back."""
    call_partition_function(connection, "create", run_id)
    lengths = (lists.outfits != PADDING).sum(axis=1)
    # Lists of one length and kind are rows of one width, which is the fast way in.
    for length, kind in np.unique(np.stack([lengths, lists.kinds], axis=1), axis=0).tolist():
        rows = np.flatnonzero((lengths == length) & (lists.kinds == kind))
        columns: dict[str, Any] = {
            "run_id": np.full(len(rows), run_id, np.int32),
            "user_key": keys.users[lists.users[rows]],
            "kind": np.full(len(rows), KINDS[kind].encode()),
            "outfit_keys": keys.outfits[lists.outfits[rows, :length]],
            "scores": lists.scores[rows, :length].astype(np.float32, copy=False),
        }
        copy_in(connection, _partition(run_id), columns, freeze=True)
    call_partition_function(connection, "seal", run_id)


def check_partition(
    connection: Connection, run_id: int, lists: RunLists, exclude_seen: bool
) -> None:
    """What only the database can see; RefusedError names the first bad thing."""
    partition = _partition(run_id)
    rows, entries = connection.execute(
        text(f"SELECT count(*), coalesce(sum(cardinality(outfit_keys)), 0) FROM {partition}")  # noqa: S608
    ).one()
    if (rows, entries) != (len(lists.users), int((lists.outfits != PADDING).sum())):
        raise RefusedError(f"run {run_id}: {rows} lists arrived instead of {len(lists.users)}")
    checks = {
        "user {0!r} has no list": "SELECT user_id FROM app_user WHERE NOT EXISTS "
        "(SELECT FROM {partition} AS run WHERE run.user_key = app_user.user_key)",
        "a list is for nobody (user_key {0})": "SELECT user_key FROM {partition} AS run "
        "WHERE NOT EXISTS (SELECT FROM app_user WHERE app_user.user_key = run.user_key)",
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
    for what, query in checks.items():
        bad = connection.execute(text(query.format(partition=partition) + " ORDER BY 1 LIMIT 1"))
        row = bad.one_or_none()
        if row is not None:
            raise RefusedError(f"run {run_id}: {what.format(row[0])}; nothing was published")


def call_partition_function(connection: Connection, action: str, run_id: int) -> None:
    """Let the owner create, seal, attach or drop the partition of a run (migration 0004)."""
    connection.execute(
        text(f"SELECT {action}_recommendation_partition(:run_id)"), {"run_id": run_id}
    )


def _partition(run_id: int) -> str:
    return f"recommendation_run_{run_id:d}"


def _refuse(lists: RunLists, bad: BoolArray, what: str) -> None:
    if bad.any():
        raise RefusedError(
            f"{int(bad.sum())} of {len(bad)} lists are wrong; that of user number "
            f"{int(lists.users[bad.argmax()])} {what}; nothing was published"
        )
