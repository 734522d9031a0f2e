"""Small catalogs for the tests of this folder."""

import numpy as np

from recjob.catalog.catalog import Catalog


def catalog(
    outfits: list[list[int]],
    positives: list[tuple[int, int]] = [],  # noqa: B006  (never changed)
    unavailable_items: tuple[int, ...] = (),
    quarantined_items: tuple[int, ...] = (),
    unavailable_outfits: tuple[int, ...] = (),
    categories: tuple[str, ...] = ("top",),
    item_category: list[int] | None = None,
) -> Catalog:
    """Items are those worn, or as many as have a category in `item_category`."""
    worn = 1 + max((max(outfit) for outfit in outfits if outfit), default=0)
    n_items = worn if item_category is None else len(item_category)
    width = max(map(len, outfits))
    rows = [outfit + [-1] * (width - len(outfit)) for outfit in outfits]
    n_users = 1 + max((user for user, _ in positives), default=0)
    return Catalog(
        categories=categories,
        item_ids=tuple(f"i{i:03}" for i in range(n_items)),
        item_category=np.array(item_category or [0] * n_items, np.int32),
        item_image=tuple("" if i in quarantined_items else f"{i:064x}" for i in range(n_items)),
        item_available=~np.isin(np.arange(n_items), unavailable_items),
        outfit_ids=tuple(f"o{i:03}" for i in range(len(outfits))),
        outfit_items=np.array(rows, np.int32),
        outfit_available=~np.isin(np.arange(len(outfits)), unavailable_outfits),
        user_ids=tuple(f"u{i:03}" for i in range(n_users)),
        positives=np.array(positives, np.int32).reshape(-1, 2),
    )
