"""Which outfits may be recommended tonight, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Catalog

UNAVAILABLE_OUTFIT = "unavailable outfit"
UNAVAILABLE_ITEM = "unavailable item"
QUARANTINED_ITEM = "quarantined item"
WITHOUT_ITEMS = "without items"
WITHOUT_VECTOR = "without vector"


@dataclass(frozen=True)
class Candidates:
    """The outfits that may be recommended."""

    mask: BoolArray
    """(n_outfits,) True where the outfit may be recommended."""
    filtered: dict[str, int]
    """Reason -> number of outfits left out; an outfit counts once, under its first reason."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) the outfits that may be recommended, ascending."""
        return np.flatnonzero(self.mask)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.mask))


def candidates(catalog: Catalog, has_vector: BoolArray | None = None) -> Candidates:
    """The outfits of `catalog` that can be worn and bought.

    `has_vector (n_outfits,)` is True where the outfit was embedded; None: everywhere. The counts
    and `mask` together cover every outfit once.
    """
    real = catalog.outfit_items != PADDING
    reasons = {
        UNAVAILABLE_OUTFIT: ~catalog.outfit_available,
        UNAVAILABLE_ITEM: _has_item(catalog, real, ~catalog.item_available),
        QUARANTINED_ITEM: _has_item(catalog, real, ~catalog.item_usable),
        WITHOUT_ITEMS: ~real.any(axis=1),
    }
    if has_vector is not None:
        reasons[WITHOUT_VECTOR] = ~has_vector
    mask = np.ones(catalog.n_outfits, np.bool_)
    filtered = {}
    for reason, hit in reasons.items():
        filtered[reason] = int(np.count_nonzero(mask & hit))
        mask &= ~hit
    return Candidates(mask, filtered)


def _has_item(catalog: Catalog, real: BoolArray, flag: BoolArray) -> BoolArray:
    """(n_outfits,) True where an item of the outfit has `flag (n_items,)`."""
    # One place more, False, is what padding (-1) points to.
    padded = np.append(flag, False)
    return np.asarray((padded[catalog.outfit_items] & real).any(axis=1))
