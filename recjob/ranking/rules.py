"""The rules on a whole list: how often an item, and a combination of categories, may come."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog, Int32Array, Int64Array
from recjob.catalog.hashing import set_hashes
from recjob.settings import RuleSettings

_ROWS_PER_BLOCK: Final = 2**18
"""Outfits hashed at a time: some tens of megabytes of working memory."""


class Caps(NamedTuple):
    """At most so many outfits of one list share an item, or have the same categories."""

    outfit_items: Int32Array
    """(N, M), padded with PADDING; (0, 0) where the number of outfits per item is free."""
    patterns: Int32Array
    """(N,) from 0, as `category_patterns` numbers them; (0,) where their number is free."""
    n_items: int
    """One more than the largest item; 0 where it is free."""
    n_patterns: int
    """Likewise of the patterns."""
    max_outfits_per_item: int
    """0: no limit."""
    max_per_pattern: int
    """0: no limit."""

    @classmethod
    def of(cls, rules: RuleSettings, outfit_items: Int32Array, patterns: Int32Array) -> Caps | None:
        """The caps that `rules` set on outfits with these items and patterns; None: no cap."""
        per_item, per_pattern = rules.max_outfits_per_item, rules.max_per_category_pattern
        if not (per_item or per_pattern):
            return None
        items = outfit_items if per_item else np.zeros((0, 0), np.int32)
        kinds = patterns if per_pattern else np.zeros(0, np.int32)
        return cls(
            np.ascontiguousarray(items, np.int32),
            np.ascontiguousarray(kinds, np.int32),
            int(items.max(initial=-1)) + 1,
            int(kinds.max(initial=-1)) + 1,
            per_item,
            per_pattern,
        )


class Groups(NamedTuple):
    """Outfits in groups that a cap bars together, so that barred ones are not looked at singly."""

    outfits: Int64Array
    """(C,)"""
    start: Int64Array
    """(G + 1,) where each group begins in `outfits`, and the end."""
    pattern: Int32Array
    """(G,) the pattern of all outfits of the group; 0 where it does not matter."""
    item: Int32Array
    """(G,) an item of all outfits of the group; 0 where it does not matter."""

    @classmethod
    def of(cls, outfits: Int64Array, caps: Caps) -> Groups:
        """Groups of `outfits (C,)` by pattern and by the item that most of them share."""
        pattern = item = np.zeros(len(outfits), np.int32)
        if caps.max_per_pattern:
            pattern = caps.patterns[outfits]
        if caps.max_outfits_per_item and len(outfits):
            items = caps.outfit_items[outfits]
            uses = np.append(np.bincount(items[items != PADDING], minlength=caps.n_items), -1)
            item = items[np.arange(len(items)), uses[items].argmax(axis=1)]
        order = np.lexsort((item, pattern))
        pattern, item = pattern[order], item[order]
        new = np.flatnonzero((np.diff(pattern) != 0) | (np.diff(item) != 0)) + 1
        first = np.concatenate([np.zeros(min(1, len(outfits)), np.int64), new])
        start = np.append(first, len(outfits))
        return cls(outfits[order], start, pattern[first], item[first])


NO_CAPS: Final = Caps(np.zeros((0, 0), np.int32), np.zeros(0, np.int32), 0, 0, 0, 0)
"""For the compiled passes, which take no None."""


def category_patterns(catalog: Catalog) -> Int32Array:
    """(n_outfits,) which categories each outfit is made of, and how many times each.

    Two outfits have the same number, from 0, where their categories are the same multiset: two
    tops and a skirt are not one top and a skirt. (Compared by a 64-bit hash.)
    """
    # One place more is what padding (-1) points to.
    categories = np.append(catalog.item_category, np.int32(PADDING))
    hashes = np.concatenate(
        [
            set_hashes(categories[catalog.outfit_items[start : start + _ROWS_PER_BLOCK]])
            for start in range(0, max(1, catalog.n_outfits), _ROWS_PER_BLOCK)
        ]
    )
    return np.unique(hashes, return_inverse=True)[1].astype(np.int32)
