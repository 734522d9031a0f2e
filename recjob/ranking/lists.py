"""From each user's best outfits to the list: varied, within the caps, and full where it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Float32Array, Int32Array, Int64Array
from recjob.ranking.greedy import ITEM_CAP, ONE, PATTERN_CAP, Int16Array, any_fits, pick
from recjob.ranking.rules import NO_CAPS, Caps, Groups
from recjob.settings import RuleSettings, VarietySettings

Search = Callable[[Int64Array, int], tuple[NDArray[Any], Float32Array]]
"""`search(rows (R,), depth)`: outfits and scores `(R, depth)` of these users, best first and
padded with -1 and -inf: a prefix of what a greater depth gives."""

SKIPPED: Final = {
    ITEM_CAP: "outfit left out: its item is in the list often enough",
    PATTERN_CAP: "outfit left out: its categories are in the list often enough",
}
SHORT_BY_CAPS: Final = "list short: caps"
SHORT_BY_CANDIDATES: Final = "list short: too few candidates"
DEPTH_FACTOR: Final = 2
"""Pools are at first so many times the list where caps may refuse outfits, and grow by it."""
PLACES_PER_SEARCH: Final = 2**22
"""Places asked for at a time: 48 MiB of outfits and scores, however deep the pools get."""
_VECTORS_PER_BLOCK: Final = 2**16


class Variety(NamedTuple):
    """Maximal marginal relevance, ready for many calls of `choose_lists`."""

    directions: Int16Array
    """(N, d) as `directions` makes them."""
    strength: float
    """Above 0, up to 1."""
    pool: int
    """The best so many outfits of each user."""

    @classmethod
    def of(cls, options: VarietySettings, outfit_vectors: Float32Array) -> Variety | None:
        """For outfits with these vectors `(N, d)`; None: variety is off."""
        if options.strength == 0:
            return None
        return cls(directions(outfit_vectors), options.strength, options.pool)


@dataclass(frozen=True)
class ListPlan:
    """What the lists of all users have in common; made once, since it costs a pass over N."""

    k: int
    """Length of a list."""
    candidates: Int64Array
    """(C,) all outfits that a search may give to anybody."""
    variety: Variety | None = None
    """None: off."""
    caps: Caps | None = None
    """None: none."""

    @classmethod
    def of(
        cls,
        k: int,
        allowed: BoolArray,
        outfit_vectors: Float32Array,
        outfit_items: Int32Array,
        patterns: Int32Array,
        rules: RuleSettings,
        variety: VarietySettings,
    ) -> ListPlan:
        """For N outfits, of which those `allowed (N,)` may be recommended."""
        return cls(
            k,
            np.flatnonzero(allowed),
            Variety.of(variety, outfit_vectors),
            Caps.of(rules, outfit_items, patterns),
        )

    @cached_property
    def groups(self) -> Groups:
        """The candidates as the caps bar them."""
        return Groups.of(self.candidates, self.caps or NO_CAPS)


@dataclass(frozen=True)
class ListChoice:
    """The lists of U users."""

    outfits: Int64Array
    """(U, k) in the order of the list, padded with -1."""
    scores: Float32Array
    """(U, k) the score of each, -inf where the place is empty; not in order after MMR."""
    skipped: Int32Array
    """(U, 2) outfits whose turn it was but for a cap, by the keys of `SKIPPED`."""

    @property
    def short(self) -> BoolArray:
        """(U,) True where places of the list are empty."""
        return np.asarray((self.outfits == PADDING).any(axis=1))

    @property
    def counts(self) -> dict[str, int]:
        """What was left out of lists, and which lists stayed short, by reason."""
        capped = self.skipped.any(axis=1)
        return {
            **{reason: int(self.skipped[:, cap].sum()) for cap, reason in SKIPPED.items()},
            SHORT_BY_CAPS: int((self.short & capped).sum()),
            SHORT_BY_CANDIDATES: int((self.short & ~capped).sum()),
        }


def directions(vectors: Float32Array) -> Int16Array:
    """Unit vectors `(N, d)` of `vectors (N, d)` in steps of 1/32767; zero stays zero.

    Half the bytes, and products of integers: their sum is the same on every processor, so that
    machines which share a run agree on the lists. A cosine is off by less than 0.0005 at d = 128
    (each coordinate by half a step, so the vector by sqrt(128) / 2 steps at most).
    """
    result = np.empty(vectors.shape, np.int16)
    for start in range(0, len(vectors), _VECTORS_PER_BLOCK):
        block = vectors[start : start + _VECTORS_PER_BLOCK].astype(np.float64)
        length = np.sqrt(np.square(block).sum(axis=1, keepdims=True))
        block *= np.divide(ONE, length, out=np.zeros_like(length), where=length > 0)
        result[start : start + _VECTORS_PER_BLOCK] = np.rint(block)
    return result


def choose_lists(
    pool_outfits: NDArray[Any],
    pool_scores: Float32Array,
    k: int,
    variety: Variety | None = None,
    caps: Caps | None = None,
) -> ListChoice:
    """The list of each user, picked one by one from the user's best outfits.

    Maximal marginal relevance (Carbonell and Goldstein, 1998): each step takes, of the first
    `variety.pool` places, the outfit with the largest
    `(1 - strength) * relevance - strength * cosine to the nearest outfit already taken`,
    at first the best one. Relevance is the score scaled to [0, 1] from the last to the first place
    of this pool: the scores of a cold starter are small throughout, and those of one user lie
    closer together than another's, but first and last of the pool differ by 1 for everyone, so
    that one strength trades the same share of a pool for variety. Where all scores are alike,
    variety alone decides.

    An outfit that would break a cap is passed over for good. When the pool is used up, the places
    behind it fill the list in their order; without variety all places do. So a deeper pool only
    ever lengthens a list. Ties go to the earlier place.

    Args:
        pool_outfits: `(U, P)` best first, -1 from the first empty place on.
        pool_scores: `(U, P)`
        k: length of a list.
        variety: None: off.
        caps: None: none.
    """
    k_pool = min(k, pool_outfits.shape[1])
    outfits = np.full((len(pool_outfits), k), PADDING, np.int64)
    scores = np.full((len(pool_outfits), k), -np.inf, np.float32)
    skipped = np.zeros((len(pool_outfits), len(SKIPPED)), np.int32)
    if variety is None and caps is None:
        outfits[:, :k_pool], scores[:, :k_pool] = pool_outfits[:, :k_pool], pool_scores[:, :k_pool]
        return ListChoice(outfits, scores, skipped)
    pool_outfits = np.ascontiguousarray(pool_outfits, np.int64)
    pool_scores = np.ascontiguousarray(pool_scores, np.float32)
    vectors, strength, pool = variety or (np.zeros((0, 0), np.int16), 0.0, 0)
    pick(pool_outfits, pool_scores, vectors, strength, pool, caps or NO_CAPS, outfits, skipped)
    row, column = np.nonzero(outfits != PADDING)
    place = outfits[row, column]
    outfits[row, column] = pool_outfits[row, place]
    scores[row, column] = pool_scores[row, place]
    return ListChoice(outfits, scores, skipped)


def fill_lists(search: Search, n_users: int, plan: ListPlan) -> ListChoice:
    """The list of each user by `choose_lists`, from pools as deep as it takes.

    A list that is not full is continued with a deeper search, for its user alone, until it is, or
    until nothing is left: the search came to an end, or every candidate that is not in the list
    breaks a cap. What comes out is what pools of all candidates give, whatever the depth and
    however users are put together. Memory beyond the lists: 100 MiB and the search's own.

    Args:
        search: finds the best outfits of users.
        n_users: `search` is asked for rows from 0 to here.
        plan: what the lists may hold.
    """
    k, variety, caps, n_candidates = plan.k, plan.variety, plan.caps, len(plan.candidates)
    outfits = np.full((n_users, k), PADDING, np.int64)
    scores = np.full((n_users, k), -np.inf, np.float32)
    skipped = np.zeros((n_users, len(SKIPPED)), np.int32)
    depth = max(k if caps is None else k * DEPTH_FACTOR, 0 if variety is None else variety.pool)
    pending = np.arange(n_users if n_candidates else 0)
    while len(pending):
        depth = min(depth, n_candidates)
        unfinished = []
        rows_per_search = max(1, PLACES_PER_SEARCH // depth)
        for start in range(0, len(pending), rows_per_search):
            rows = pending[start : start + rows_per_search]
            pool_outfits, pool_scores = search(rows, depth)
            choice = choose_lists(pool_outfits, pool_scores, k, variety, caps)
            outfits[rows], scores[rows] = choice.outfits, choice.scores
            skipped[rows] = choice.skipped
            open_ended = pool_outfits[:, -1] != PADDING
            deeper = choice.short & open_ended & (depth < n_candidates)
            deeper[deeper] = _any_fits(choice.outfits[deeper], plan)
            unfinished.append(rows[deeper])
        pending = np.concatenate(unfinished)
        depth *= DEPTH_FACTOR
    return ListChoice(outfits, scores, skipped)


def _any_fits(lists: Int64Array, plan: ListPlan) -> BoolArray:
    """(U,) True where a candidate could still join the list."""
    fits = np.ones(len(lists), np.bool_)
    if len(lists):  # else there is nothing to compile and to group for
        any_fits(lists, plan.groups, plan.caps or NO_CAPS, fits)
    return fits
