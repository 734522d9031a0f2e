"""The catalog as dense arrays: strings at the border, int32 inside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

PADDING = -1
"""Fills the unused places of a row of `outfit_items`."""

NO_TIME = -(2**63)
"""In `positive_at`: when it was liked is not known."""
NO_PART = -1
"""In `positive_part`: the data do not say which part the positive belongs to."""
ANY_VALIDATION = 4
"""In `positive_part`: validation, without saying whose half; 0 to 3 are `split.Part`."""

Int8Array = NDArray[np.int8]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Catalog:
    """Items, outfits, users and positives of a shop.

    An index into `item_ids`, `outfit_ids` or `user_ids` is the entity everywhere else.
    Each of the three is sorted, so that the same data give the same indices.
    """

    categories: tuple[str, ...]
    """Category names, sorted."""
    item_ids: tuple[str, ...]
    item_category: Int32Array
    """(n_items,) index into `categories`."""
    item_image: tuple[str, ...]
    """(n_items,) sha256 (hex) of each item's picture file; "" where the item is in quarantine."""
    item_available: BoolArray
    """(n_items,)"""
    outfit_ids: tuple[str, ...]
    outfit_items: Int32Array
    """(n_outfits, max_items), items first, then PADDING."""
    outfit_available: BoolArray
    """(n_outfits,)"""
    user_ids: tuple[str, ...]
    positives: Int32Array
    """(n_positives, 2): user, outfit; unique, in lexicographic order."""
    positive_at: Int64Array | None = None
    """(n_positives,) microseconds since 1970 UTC, or NO_TIME; None: no time is known."""
    positive_part: Int8Array | None = None
    """(n_positives,) the part as the data say: `split.Part`, ANY_VALIDATION or NO_PART; None: they
    say nothing."""

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def n_outfits(self) -> int:
        """Number of outfits."""
        return len(self.outfit_ids)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def max_items(self) -> int:
        """Width of `outfit_items`."""
        return int(self.outfit_items.shape[1])

    @cached_property
    def item_usable(self) -> BoolArray:
        """(n_items,) True where the item has a picture, that is, is not in quarantine."""
        return np.fromiter((image != "" for image in self.item_image), np.bool_, self.n_items)

    @cached_property
    def outfit_usable(self) -> BoolArray:
        """(n_outfits,) True where every item of the outfit has a picture."""
        return self._all_items(self.item_usable)

    @cached_property
    def outfit_recommendable(self) -> BoolArray:
        """(n_outfits,) available, and every item available and not in quarantine."""
        return self.outfit_available & self._all_items(self.item_usable & self.item_available)

    def _all_items(self, flag: BoolArray) -> BoolArray:
        real = self.outfit_items != PADDING
        return np.asarray((flag[self.outfit_items] | ~real).all(axis=1) & real.any(axis=1))
