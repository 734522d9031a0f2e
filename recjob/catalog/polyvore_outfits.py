"""Items and outfits of Polyvore-U: from indices in the files to ids that hold in every set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from recjob.catalog.catalog import PADDING, Int32Array, Int64Array
from recjob.catalog.hashing import keyed_hashes, set_hashes
from recjob.catalog.polyvore_files import CATEGORIES, Tuples
from recjob.catalog.tables import ITEMS_SCHEMA

PICTURE_FOLDER: Final = "images/291x291"
PICTURE_ENDING: Final = ".jpg"

_ID_KEYS: Final = ("polyvore-u 1", "polyvore-u 2")
"""An outfit's id is two 64-bit hashes of its items' ids: the same in every set, and no two alike
among any number of outfits that there will be."""
_HASH_DIGITS: Final = 16


@dataclass(frozen=True)
class PolyvoreItems:
    """The items of the image lists of one set."""

    table: pa.Table
    """`ITEMS_SCHEMA`, in the order of the lists."""
    rows: tuple[Int64Array, ...]
    """Per category, (n,) the row of `table` of each line of its list."""

    @classmethod
    def of_lists(cls, lists: Sequence[Sequence[str]]) -> PolyvoreItems:
        """The items of the lists of top, bottom and shoe.

        A name that a list has twice is one item. A name in two lists is two items, since an item
        has one category: the later one's id ends in its category.
        """
        ids: dict[str, int] = {}
        categories: list[str] = []
        images: list[str] = []
        seen: set[str] = set()
        rows = []
        for category, names in zip(CATEGORIES, lists, strict=True):
            places = np.empty(len(names), np.int64)
            for line, name in enumerate(names):
                stem = name.removesuffix(PICTURE_ENDING)
                item = f"{stem}-{category}" if name in seen else stem
                if item not in ids:
                    ids[item] = len(ids)
                    categories.append(category)
                    images.append(f"{PICTURE_FOLDER}/{name}")
                places[line] = ids[item]
            seen.update(names)
            rows.append(places)
        table = pa.table(
            [
                *(pa.array(list(column), pa.string()) for column in (ids, categories, images)),
                pa.repeat(pa.scalar(True), len(ids)),
                pa.repeat(pa.scalar("{}"), len(ids)),
            ],
            schema=ITEMS_SCHEMA,
        )
        return cls(table, tuple(rows))

    def outfit_rows(self, tuples: Tuples) -> Int32Array:
        """(n, max_items) rows of `table` that an outfit has, each once, then padding.

        The released negatives draw both tops alike, so that they have the same one now and then.
        """
        found = np.full(tuples.items.shape, PADDING, np.int32)
        for kind, rows in enumerate(self.rows):
            chosen = tuples.types == kind
            found[chosen] = rows[tuples.items[chosen]]
        for place in range(1, tuples.items.shape[1]):
            again = (found[:, :place] == found[:, place, None]).any(axis=1)
            found[again, place] = PADDING
        order = np.argsort(found == PADDING, axis=1, kind="stable")
        return np.take_along_axis(found, order, axis=1)

    def item_lists(self, outfits: Int32Array) -> pa.Array:
        """(n,) lists of item ids of outfits (n, max_items) as `outfit_rows` gives them."""
        there = outfits != PADDING
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        ids = self.table["item_id"].combine_chunks()
        return pa.ListArray.from_arrays(pa.array(offsets), ids.take(pa.array(outfits[there])))

    def outfit_ids(self, parts: Sequence[Int32Array]) -> pa.ChunkedArray:
        """The id of each outfit, a chunk per part; equal for equal sets of items."""
        names = self.table["item_id"].to_pylist()
        hashes = [keyed_hashes(names, key, "item") for key in _ID_KEYS]
        chunks = []
        for outfits in parts:
            both = np.stack([set_hashes(outfits, each) for each in hashes], axis=1)
            digits = both.astype(">u8").tobytes().hex().encode()
            letters = np.frombuffer(digits, f"S{_HASH_DIGITS * len(hashes)}")
            chunks.append(pa.array(letters, pa.binary()).cast(pa.string()))
        return pa.chunked_array(chunks, pa.string())
