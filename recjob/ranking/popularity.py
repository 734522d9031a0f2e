"""How popular an outfit is: the baseline, and the start of the strangers' list."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Catalog

Int64Array = NDArray[np.int64]


def item_counts(catalog: Catalog, training_positives: NDArray[Any]) -> Int64Array:
    """(n_items,) in how many of `training_positives (n, 2)` (user, outfit) each item is worn."""
    items = catalog.outfit_items[training_positives[:, 1]]
    return np.bincount(items[items != PADDING], minlength=catalog.n_items).astype(np.int64)


def outfit_scores(counts: Int64Array, outfit_items: NDArray[Any]) -> Int64Array:
    """(n,) sum of the `counts (n_items,)` of the items of each of `outfit_items (n, M)`.

    Works for any item tuples, also such as are no outfit of the catalog (drawn negatives).
    """
    # One place more, zero, is what padding (-1) points to.
    result: Int64Array = np.append(counts, 0)[outfit_items].sum(axis=1, dtype=np.int64)
    return result


def popularity_scores(catalog: Catalog, training_positives: NDArray[Any]) -> Int64Array:
    """(n_outfits,) popularity of the catalog's outfits, from `training_positives (n, 2)`."""
    return outfit_scores(item_counts(catalog, training_positives), catalog.outfit_items)
