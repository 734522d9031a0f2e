"""What the users of the drawn catalog truly like, and whether a catalog is that one."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int32Array
from recjob.catalog.garments.items import CATEGORIES
from recjob.catalog.hashing import pair_hashes, set_hashes
from recjob.catalog.synthetic import Simulation

POSTED_BELOW: Final = 0.1
"""Share of a user's posts whose true utility does not reach the level from which the user posts.
With none, the one best mood would set the level; with a tenth, a user truly likes about 4 % of the
random outfits that a training draws."""
_ITEM: Final = re.compile(r"item-\d{3,}")
_USER: Final = re.compile(r"(user|newcomer|stranger)-\d{3,}")


def posting_levels(world: Simulation) -> NDArray[np.float32]:
    """(n_users, 2) the true utility from which a user posts outfits with one and with two tops.

    The two kinds have levels of their own, as users of the simulation rank them apart. A user who
    posted none of a kind likes none of it: infinity.
    """
    users, outfits = world.positives.T
    items = world.outfit_items[outfits]
    utility = world.utility(users, items)
    group = users.astype(np.int64) * 2 + _two_tops(world, items)
    order = np.lexsort((utility, group))
    count = np.bincount(group, minlength=2 * len(world.user_ids))
    start = np.cumsum(count) - count
    # The lowest utility that still leaves nine tenths of the posts at or above it.
    place = start + np.floor(POSTED_BELOW * count).astype(np.int64)
    levels = np.full(count.size, np.inf, np.float32)
    levels[count > 0] = utility[order][place[count > 0]]
    return levels.reshape(-1, 2)


def truly_liked(world: Simulation, users: Int32Array, outfits: Int32Array) -> BoolArray:
    """(n,) whether `users` (n,) truly like `outfits` (n, k) of the simulation's item indices."""
    levels = posting_levels(world)[users, _two_tops(world, outfits)]
    return np.asarray(world.utility(users, outfits) >= levels)


def looks_drawn(catalog: Catalog) -> bool:
    """Whether every item and user is named as in a drawn catalog, of whatever settings."""
    return all(map(_ITEM.fullmatch, catalog.item_ids)) and all(
        map(_USER.fullmatch, catalog.user_ids)
    )


def is_drawn_from(world: Simulation, catalog: Catalog) -> bool:
    """Whether the items are those of `world`, and all positives are positives there.

    Where they are, an item has the same index in both. Users may be missing (newcomers that were
    not imported), and outfits that nobody has liked may have been added.
    """
    if catalog.item_ids != world.item_ids:
        return False
    index = {user_id: number for number, user_id in enumerate(world.user_ids)}
    users = np.array([index.get(user_id, PADDING) for user_id in catalog.user_ids], np.int64)
    if (users == PADDING).any():
        return False
    liked = _pairs(users[catalog.positives[:, 0]], catalog.outfit_items[catalog.positives[:, 1]])
    true = _pairs(world.positives[:, 0], world.outfit_items[world.positives[:, 1]])
    return bool(np.isin(liked, true).all())


def liked_in(
    world: Simulation, catalog: Catalog, users: Int32Array, outfits: Int32Array
) -> BoolArray:
    """`truly_liked` of users and items of a catalog that is drawn from `world`."""
    return truly_liked(world, users_in(world, catalog)[users], outfits)


def users_in(world: Simulation, catalog: Catalog) -> Int32Array:
    """(n_users,) the simulation's index of each user of a catalog that is drawn from `world`."""
    index = {user_id: number for number, user_id in enumerate(world.user_ids)}
    return np.array([index[user_id] for user_id in catalog.user_ids], np.int32)


def _two_tops(world: Simulation, outfits: Int32Array) -> NDArray[np.int64]:
    """(n,) 1 where an outfit of `outfits` (n, k) has more than one top, else 0."""
    top = world.taste.items.category == CATEGORIES.index("top")
    # One place more, False, is what padding (-1) points to.
    tops = np.append(top, False)[outfits].sum(axis=1)
    return np.asarray(tops > 1, np.int64)


def _pairs(users: NDArray[np.integer], items: Int32Array) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = users.astype(np.int64).view(np.uint64)
    return pair_hashes(keys, set_hashes(items))
