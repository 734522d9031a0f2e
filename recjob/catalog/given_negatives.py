"""Negatives that a data set brings along for its evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int32Array, Int64Array
from recjob.catalog.hashing import UInt64Array, mix, pair_hashes
from recjob.catalog.tables import FolderTables


@dataclass(frozen=True)
class GivenNegatives:
    """Outfits to rank beside positives, in the order in which the data have them."""

    positive: Int64Array
    """(n,) index into the catalog's `positives`, ascending."""
    hard: BoolArray
    """(n,) whether other users like it, as the data say."""
    items: Int32Array
    """(n, max_items) item indices, padded; as wide as the widest needs."""

    @classmethod
    def of_rows(
        cls,
        catalog: Catalog,
        users: Int64Array,
        outfits: Int64Array,
        hard: BoolArray,
        items: Int32Array,
    ) -> GivenNegatives:
        """Of rows in the data's order, by the users (n,) and outfits (n,) of their positives.

        A row is left out where there is no such positive: an index is -1, or they are no pair.
        """
        pairs = catalog.positives[:, 0].astype(np.int64) * catalog.n_outfits
        pairs += catalog.positives[:, 1]
        wanted = users.astype(np.int64) * catalog.n_outfits + outfits
        places = np.searchsorted(pairs, wanted)
        there = np.zeros(wanted.size, np.bool_)
        if pairs.size:
            there = pairs[np.minimum(places, pairs.size - 1)] == wanted
        kept = np.flatnonzero(there & (users >= 0) & (outfits >= 0))
        kept = kept[np.argsort(places[kept], kind="stable")]
        return cls(places[kept].astype(np.int64), hard[kept], items[kept])


def given_negatives(catalog: Catalog, tables: FolderTables) -> GivenNegatives:
    """Those of a folder, for the catalog that `to_catalog` made of it.

    One with an item that the catalog lacks is left out.
    """
    table = tables.negatives
    lists = table["item_ids"]
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(sizes.size), sizes)
    places = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    width = max(catalog.max_items, int(sizes.max(initial=1)))
    items = np.full((sizes.size, width), PADDING, np.int32)
    codes = _codes(pc.list_flatten(lists), pa.array(catalog.item_ids, pa.string()))
    items[rows, places] = codes
    users = _codes(table["user_id"], pa.array(catalog.user_ids, pa.string()))
    users[rows[codes < 0]] = -1
    return GivenNegatives.of_rows(
        catalog,
        users,
        _codes(table["outfit_id"], pa.array(catalog.outfit_ids, pa.string())),
        np.asarray(pc.equal(table["kind"], "hard").to_numpy(zero_copy_only=False), np.bool_),
        items,
    )


def liked_negatives(tables: FolderTables) -> BoolArray:
    """(n_negatives,) whether the user of a negative likes just that set of items, in any part.

    Data sets draw negatives at random and hit a positive now and then. Of outfits that only a
    database has the items are not known here; the evaluation leaves those out.
    """
    outfits, negatives = tables.outfits["item_ids"], tables.negatives["item_ids"]
    both = pa.chunked_array(
        [*pc.list_flatten(outfits).chunks, *pc.list_flatten(negatives).chunks], pa.string()
    )
    items = pc.unique(both)
    interactions = tables.interactions
    owner = _codes(interactions["outfit_id"], tables.outfits["outfit_id"])
    here = owner >= 0
    users = pc.unique(interactions["user_id"])
    liked = pair_hashes(
        _codes(interactions["user_id"], users)[here].view(np.uint64),
        _set_sums(outfits, items)[owner[here]],
    )
    offered = pair_hashes(
        _codes(tables.negatives["user_id"], users).view(np.uint64), _set_sums(negatives, items)
    )
    return np.isin(offered, liked)


def _set_sums(lists: pa.ChunkedArray, items: pa.Array) -> UInt64Array:
    """(n,) a hash of each list as a set."""
    sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
    sums = np.zeros(sizes.size, np.uint64)
    codes = _codes(pc.list_flatten(lists), items)
    np.add.at(sums, np.repeat(np.arange(sizes.size), sizes), mix(codes.view(np.uint64)))
    return sums


def _codes(values: pa.ChunkedArray, ids: pa.Array | pa.ChunkedArray) -> Int64Array:
    """(n,) index of each value in `ids`; -1 where it is not there."""
    if isinstance(ids, pa.ChunkedArray):
        ids = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], pa.string())
    codes = pc.fill_null(pc.index_in(values, value_set=ids), -1)
    return np.asarray(codes.to_numpy(), dtype=np.int64)
