"""Small random catalogs for tests, made without the code under test."""

from __future__ import annotations

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog


def random_shop(
    rng: np.random.Generator,
    n_items: int = 40,
    n_users: int = 8,
    n_outfits: int = 60,
    n_positives: int = 120,
    quarantined: int = 0,
) -> Catalog:
    """Three categories in turn; outfits of two to four items, some with an item category twice."""
    category = np.arange(n_items, dtype=np.int32) % 3
    outfits = np.full((n_outfits, 4), PADDING, dtype=np.int32)
    for row in range(n_outfits):
        size = int(rng.integers(2, 5))
        outfits[row, :size] = rng.choice(n_items, size, replace=False)
    pairs = rng.integers(0, (n_users, n_outfits), (n_positives, 2)).astype(np.int32)
    images = [f"{item:064x}" for item in range(1, n_items + 1)]
    for item in rng.choice(n_items, quarantined, replace=False):
        images[item] = ""
    return Catalog(
        categories=("bottom", "shoes", "top"),
        item_ids=tuple(f"i{item:04d}" for item in range(n_items)),
        item_category=category,
        item_image=tuple(images),
        item_available=np.ones(n_items, dtype=np.bool_),
        outfit_ids=tuple(f"o{outfit:04d}" for outfit in range(n_outfits)),
        outfit_items=outfits,
        outfit_available=np.ones(n_outfits, dtype=np.bool_),
        user_ids=tuple(f"u{user:04d}" for user in range(n_users)),
        positives=np.unique(pairs, axis=0),
    )


def item_set(row: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> frozenset[int]:
    """The items of one outfit."""
    return frozenset(int(item) for item in row if item != PADDING)


def liked_sets(catalog: Catalog) -> dict[int, set[frozenset[int]]]:
    """Item sets that each user likes."""
    liked: dict[int, set[frozenset[int]]] = {user: set() for user in range(catalog.n_users)}
    for user, outfit in catalog.positives:
        liked[int(user)].add(item_set(catalog.outfit_items[outfit]))
    return liked


def place(outfits: list[list[int]], category: list[int], users: list[list[int]]) -> Catalog:
    """A catalog of given outfits; `users` lists the outfits that each likes."""
    width = max(len(outfit) for outfit in outfits)
    return Catalog(
        categories=("bottom", "shoes", "top"),
        item_ids=tuple(f"i{item}" for item in range(len(category))),
        item_category=np.array(category, dtype=np.int32),
        item_image=("image",) * len(category),
        item_available=np.ones(len(category), dtype=np.bool_),
        outfit_ids=tuple(f"o{outfit}" for outfit in range(len(outfits))),
        outfit_items=np.array([o + [-1] * (width - len(o)) for o in outfits], dtype=np.int32),
        outfit_available=np.ones(len(outfits), dtype=np.bool_),
        user_ids=tuple(f"u{user}" for user in range(len(users))),
        positives=np.array(
            [(user, outfit) for user, liked in enumerate(users) for outfit in sorted(liked)],
            dtype=np.int32,
        ),
    )
