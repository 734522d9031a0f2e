"""Evaluation lists in Postgres, and the negatives that data sets bring for them.

Stored lists are what makes models of different days comparable: the jobs that evaluate draw only
what is missing (`jobs/evaluation_sets`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from recjob.catalog.catalog import PADDING, Catalog, Int32Array, Int64Array
from recjob.catalog.given_negatives import GivenNegatives
from recjob.catalog.split import Part
from recjob.errors import DataError
from recjob.settings import NegativesKind, SplitSettings
from recjob.store.bulk import copy_in, copy_out, copy_table_out
from recjob.store.catalog_store import CatalogKeys


@dataclass(frozen=True)
class EvaluationSet:
    """What a set of lists is drawn with; another value of any of these is another set."""

    split: SplitSettings
    part: Part
    kind: NegativesKind
    negatives: int
    """Per positive."""
    seed: int


@dataclass(frozen=True)
class StoredNegatives:
    """Stored lists; all indices are the catalog's."""

    users: Int32Array
    """(n,)"""
    outfits: Int32Array
    """(n,) the positives; -1 where the catalog has lost it."""
    negatives: Int32Array
    """(n, negatives, places) item indices, padded."""


def lock_lists(connection: Connection, wanted: EvaluationSet) -> int:
    """The key of a set, made where it is new; nobody else writes lists until the transaction ends.

    Else two evaluations at once would both draw what is missing.
    """
    connection.execute(text("LOCK TABLE evaluation_list IN SHARE ROW EXCLUSIVE MODE"))
    values = {
        "split": json.dumps(wanted.split.model_dump(mode="json")),
        "part": int(wanted.part),
        "kind": wanted.kind,
        "negatives": wanted.negatives,
        "seed": wanted.seed,
    }
    found = connection.scalar(
        text(
            "SELECT set_key FROM evaluation_set WHERE split = CAST(:split AS jsonb) "
            "AND part = :part AND kind = :kind AND negatives = :negatives AND seed = :seed"
        ),
        values,
    )
    if found is None:
        found = connection.scalar(
            text(
                "INSERT INTO evaluation_set (split, part, kind, negatives, seed) "
                "VALUES (CAST(:split AS jsonb), :part, :kind, :negatives, :seed) RETURNING set_key"
            ),
            values,
        )
    return int(found)


def read_lists(
    connection: Connection, set_key: int, n_negatives: int, keys: CatalogKeys
) -> StoredNegatives:
    """Every list of a set."""
    found = _read_items(
        connection,
        "SELECT user_key, outfit_key, places::integer, (place - 1)::integer, item "
        "FROM evaluation_list, unnest(item_keys) WITH ORDINALITY AS entry (item, place) "
        "WHERE set_key = %(set)s ORDER BY user_key, outfit_key, place",
        {"set": set_key},
    )
    users, outfits, places = found.heads.T
    shape = len(users), n_negatives, int(places.max(initial=1))
    negatives = np.full(shape, PADDING, np.int32)
    number, place = np.divmod(found.places, places[found.rows])
    negatives[found.rows, number, place] = keys.item_index(found.items)
    return StoredNegatives(keys.user_index(users), keys.outfit_index(outfits), negatives)


def replace_lists(
    connection: Connection, set_key: int, lists: StoredNegatives, keys: CatalogKeys
) -> None:
    """Store lists, in place of those of the same positives."""
    n, _, width = lists.negatives.shape
    if n == 0:
        return
    users, outfits = keys.users[lists.users], keys.outfits[lists.outfits]
    connection.execute(
        text(
            "DELETE FROM evaluation_list USING "
            "unnest(CAST(:users AS integer[]), CAST(:outfits AS integer[])) "
            "AS new (user_key, outfit_key) WHERE set_key = :set "
            "AND evaluation_list.user_key = new.user_key "
            "AND evaluation_list.outfit_key = new.outfit_key"
        ),
        {"users": users.tolist(), "outfits": outfits.tolist(), "set": set_key},
    )
    items = np.where(lists.negatives == PADDING, PADDING, keys.items[lists.negatives])
    copy_in(
        connection,
        "evaluation_list",
        {
            "set_key": np.full(n, set_key, np.int32),
            "user_key": users,
            "outfit_key": outfits,
            "places": np.full(n, width, np.int16),
            "item_keys": items.reshape(n, -1).astype(np.int32),
        },
    )


def write_given_negatives(connection: Connection, negatives: pa.Table) -> None:
    """Store `tables.NEGATIVES_SCHEMA`, in place of the negatives of the same positives.

    Their interactions must be there already.

    Raises DataError where an item is not.
    """
    if not negatives.num_rows:
        return
    users = _keys_of(connection, "SELECT user_id, user_key FROM app_user", negatives["user_id"])
    outfits = _keys_of(
        connection, "SELECT outfit_id, outfit_key FROM outfit", negatives["outfit_id"]
    )
    lists = negatives["item_ids"]
    flat = pc.list_flatten(lists)
    items = _keys_of(connection, "SELECT item_id, item_key FROM item", flat)
    if (items < 0).any():
        unknown = flat[int(np.flatnonzero(items < 0)[0])].as_py()
        raise DataError(f"negatives: unknown item {unknown!r}; import the items first")
    hard = np.asarray(pc.equal(negatives["kind"], "hard").to_numpy(zero_copy_only=False))
    # In the data's order, of each positive and kind from 0.
    order = np.lexsort((hard, outfits, users))
    head = np.stack([users, outfits, hard.astype(np.int32)], axis=1)[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (head[1:] != head[:-1]).any(axis=1)
    start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    number = np.empty(len(order), np.int16)
    number[order] = np.arange(len(order)) - start
    pairs = np.unique(np.stack([users, outfits], axis=1), axis=0)
    connection.execute(
        text(
            "DELETE FROM given_negative USING "
            "unnest(CAST(:users AS integer[]), CAST(:outfits AS integer[])) "
            "AS new (user_key, outfit_key) "
            "WHERE given_negative.user_key = new.user_key "
            "AND given_negative.outfit_key = new.outfit_key"
        ),
        {"users": pairs[:, 0].tolist(), "outfits": pairs[:, 1].tolist()},
    )
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
    first = np.cumsum(sizes) - sizes
    for size in np.unique(sizes):  # arrays of one length go in as one block
        rows = np.flatnonzero(sizes == size)
        copy_in(
            connection,
            "given_negative",
            {
                "user_key": users[rows],
                "outfit_key": outfits[rows],
                "hard": hard[rows],
                "number": number[rows],
                "item_keys": items[first[rows][:, None] + np.arange(size)],
            },
        )


def read_given_negatives(
    connection: Connection, catalog: Catalog, keys: CatalogKeys
) -> GivenNegatives:
    """All negatives that data sets brought, for the catalog that was read with `keys`."""
    found = _read_items(
        connection,
        "SELECT user_key, outfit_key, hard::integer, (place - 1)::integer, item "
        "FROM given_negative, unnest(item_keys) WITH ORDINALITY AS entry (item, place) "
        "ORDER BY user_key, outfit_key, hard, number, place",
    )
    users, outfits, hard = found.heads.T
    width = max(catalog.max_items, int(found.places.max(initial=0)) + 1)
    items = np.full((len(users), width), PADDING, np.int32)
    items[found.rows, found.places] = keys.item_index(found.items)
    return GivenNegatives.of_rows(
        catalog,
        keys.user_index(users).astype(np.int64),
        keys.outfit_index(outfits).astype(np.int64),
        hard.astype(np.bool_),
        items,
    )


@dataclass(frozen=True)
class _ItemRows:
    """Rows of three integers and an array of item keys each."""

    heads: Int32Array
    """(n, 3)"""
    rows: Int64Array
    """(m,) the row of each item key."""
    places: Int64Array
    """(m,) its place in the array, from 0."""
    items: Int32Array
    """(m,)"""


def _read_items(
    connection: Connection, query: str, parameters: dict[str, Any] | None = None
) -> _ItemRows:
    """What `query` selects: three integers, the place of an item from 0, and its key."""
    dtypes = {"a": "i4", "b": "i4", "c": "i4", "place": "i4", "item": "i4"}
    found = copy_out(connection, query, dtypes, parameters)
    first = found["place"] == 0
    heads = np.stack([found[name][first] for name in "abc"], axis=1)
    rows = np.cumsum(first) - 1
    return _ItemRows(heads, rows, found["place"].astype(np.int64), found["item"])


def _keys_of(connection: Connection, query: str, wanted: pa.ChunkedArray) -> Int32Array:
    """(n,) the database's key of each id; -1 where there is none."""
    known = copy_table_out(connection, query, pa.schema([("id", pa.string()), ("key", pa.int32())]))
    ids, keys = known["id"].combine_chunks(), known["key"].to_numpy().astype(np.int32)
    codes = pc.fill_null(pc.index_in(wanted, value_set=ids), -1).to_numpy()
    return np.asarray(np.append(keys, np.int32(-1))[codes])
