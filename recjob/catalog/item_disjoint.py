"""A split in which no item of a user's held-out outfits is in that user's training outfits.

Outfits of one user that hang together by shared items make a group. Whole groups are held out
until the share is reached; the largest group of each user always trains. Where a user's other
groups are too few for the share (a small wardrobe hangs together as a whole), outfits of the
largest group are held out too, those first that share items with the fewest others, and training
outfits that share an item with them are left out; unless that would leave the user less to train
with than is held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Int64Array
from recjob.catalog.hashing import UInt64Array

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Uses:
    """Which positive uses which item, an item counting per user; ordered by item."""

    positive: Int64Array
    """(m,)"""
    starts: Int64Array
    """(k,) where the uses of each of the k items of users begin."""

    @property
    def sizes(self) -> Int64Array:
        """(k,) uses of each item."""
        return np.diff(np.append(self.starts, self.positive.size))

    @classmethod
    def of(cls, catalog: Catalog) -> _Uses:
        """Every use in the catalog's positives."""
        user, outfit = catalog.positives.T
        items = catalog.outfit_items[outfit]
        positive, place = np.nonzero(items != PADDING)
        owned = user[positive].astype(np.int64) * catalog.n_items + items[positive, place]
        order = np.argsort(owned, kind="stable")
        ordered = owned[order]
        changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        starts = np.concatenate([np.zeros(min(1, owned.size), np.int64), changes])
        return cls(positive[order].astype(np.int64), starts)

    def spread(self, values: Int64Array) -> Int64Array:
        """(m,) to every use the least of `values` (n_positives,) among the uses of its item."""
        if not self.positive.size:
            return values[:0]
        return np.repeat(np.minimum.reduceat(values[self.positive], self.starts), self.sizes)


def sharing(catalog: Catalog, some: BoolArray) -> BoolArray:
    """(n_positives,) whether an item of the positive is in one of its user's among `some` too.

    `some` (n_positives,); a positive that is among them shares its items with itself.
    """
    return _sharing(_Uses.of(catalog), some)


def _sharing(uses: _Uses, some: BoolArray) -> BoolArray:
    shares = np.zeros(some.size, np.bool_)
    shares[uses.positive[uses.spread((~some).astype(np.int64)) == 0]] = True
    return shares


def disjoint_places(
    catalog: Catalog, hashes: UInt64Array, held: float, offsets: Float64Array
) -> tuple[Float64Array, BoolArray]:
    """The place of each positive between 0 (trains) and 1 (tests), and which are left out.

    Args:
        catalog: whose positives.
        hashes: (n_positives,) decide which outfits are held out.
        held: share of the positives that is to be held out; their places are from 1 - `held` on.
        offsets: (n_users,) in [0, 1): how the share of each user is rounded.

    Returns (n_positives,) each.
    """
    uses = _Uses.of(catalog)
    user = catalog.positives[:, 0].astype(np.int64)
    group = _groups(uses, user.size)
    wanted = np.bincount(user, minlength=catalog.n_users) * held + offsets
    largest = _largest(group, user, hashes, catalog.n_users)
    taken = _taken(group, largest, uses, hashes, user, wanted)
    while True:
        alone = np.where(taken, user.size + np.arange(user.size), group)
        place = _places(alone, largest & ~taken, user, hashes, wanted, offsets)
        held_out = place >= 1 - held
        left_out = ~held_out & _sharing(uses, held_out)
        trains = ~held_out & ~left_out
        n_held, n_trains, n_taken = (
            np.bincount(user[chosen], minlength=catalog.n_users)
            for chosen in (held_out, trains, taken)
        )
        spoilt = (n_taken > 0) & (n_trains < n_held)
        if not spoilt.any():
            return place, left_out
        taken &= ~spoilt[user]


def _groups(uses: _Uses, n: int) -> Int64Array:
    """(n,) the group of each positive: the least index among those that it hangs together with."""
    label = np.arange(n)
    while True:
        least = label.copy()
        np.minimum.at(least, uses.positive, uses.spread(label))
        # Everybody follows their label to its own label, so that long chains shrink fast.
        np.minimum.at(least, label, least)
        least = least[least]
        if np.array_equal(least, label):
            return label
        label = least


def _largest(group: Int64Array, user: Int64Array, hashes: UInt64Array, n_users: int) -> BoolArray:
    """(n,) whether a positive is in the largest group of its user."""
    size = np.bincount(group, minlength=group.size)[group]
    order = np.lexsort((hashes, -size, user))
    first = np.ones(order.size, np.bool_)
    first[1:] = user[order][1:] != user[order][:-1]
    largest_of = np.full(n_users, -1, np.int64)
    largest_of[user[order][first]] = group[order][first]
    return np.asarray(group == largest_of[user])


def _taken(
    group: Int64Array,
    largest: BoolArray,
    uses: _Uses,
    hashes: UInt64Array,
    user: Int64Array,
    wanted: Float64Array,
) -> BoolArray:
    """(n,) which positives are taken out of their user's largest group, to be held out alone."""
    n_users = wanted.size
    missing = np.floor(wanted).astype(np.int64) - np.bincount(user[~largest], minlength=n_users)
    # How many others an outfit shares an item with, an outfit counting once per item.
    others = np.repeat(uses.sizes - 1, uses.sizes)
    shared = np.bincount(uses.positive, weights=others, minlength=group.size)
    order = np.lexsort((hashes, shared, user))
    order = order[largest[order]]
    count = np.bincount(user[order], minlength=n_users)
    rank = np.arange(order.size) - (np.cumsum(count) - count)[user[order]]
    taken = np.zeros(group.size, np.bool_)
    # One at least remains: a user with a single outfit trains with it.
    taken[order[rank < np.minimum(missing, count - 1)[user[order]]]] = True
    return taken


def _places(
    group: Int64Array,
    trains: BoolArray,
    user: Int64Array,
    hashes: UInt64Array,
    wanted: Float64Array,
    offsets: Float64Array,
) -> Float64Array:
    """(n,) the place of each positive between 0 and 1; 0 for the groups of `trains` (n,)."""
    first, member = np.unique(group, return_index=True, return_inverse=True)[1:]
    size = np.bincount(member, minlength=first.size)
    # A group's hash is the least of its members', which no order of theirs can change.
    least = np.full(first.size, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, member, hashes)
    owner, train = user[first], trains[first]
    large = np.where(size > wanted[owner], size, 0)
    before = _positives_before(owner, train, large, least, size)
    # Of a group that lies across the border of a share, the offset decides: so shares hold on
    # average however large the groups are.
    total = np.bincount(user, minlength=wanted.size)[owner]
    place = 1 - (before + size * (1 - offsets[owner])) / total
    return np.where(train, 0.0, place)[member]


def _positives_before(
    owner: Int64Array,
    trains: BoolArray,
    large: NDArray[np.number],
    hash_: UInt64Array,
    size: Int64Array,
) -> Int64Array:
    """(n_groups,) positives of the same user in the groups that are held out before this one.

    Small groups come in the order of their hashes, large ones after them by size, and last those
    that train in any case.
    """
    order = np.lexsort((hash_, large, trains, owner))
    through = np.cumsum(size[order])
    first = np.ones(order.size, np.bool_)
    first[1:] = owner[order][1:] != owner[order][:-1]
    start = np.maximum.accumulate(np.where(first, through - size[order], 0))
    before = np.empty(order.size, np.int64)
    before[order] = through - size[order] - start
    return before
