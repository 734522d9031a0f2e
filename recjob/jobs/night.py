"""What a night works on, frozen at its start: who is served, from which vectors, with what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int32Array, Int64Array
from recjob.model.cold_start import cold_start_vectors
from recjob.ranking.scorer import IndexedOutfits, ShardScorer
from recjob.ranking.shard import ListOptions, ScoringTable, UserShard
from recjob.settings import ColdStartSettings, Settings
from recjob.store.catalog_store import CatalogKeys
from recjob.store.run_lists import KINDS

WARM, COLD, STRANGER = (KINDS.index(kind) for kind in ("warm", "cold", "stranger"))
FORMAT: Final = 1
"""Grows when the same inputs give other lists or shards: what an older version left is not used."""
SETTINGS_OF_LISTS: Final = ("cold_start", "rules", "variety", "mixes", "index", "split")
NIGHTLY_OF_LISTS: Final = (
    "k",
    "spare",
    "search",
    "shard_users",
    "stranger_relevance",
    "stranger_pool",
)
"""The settings that the lists follow from; where shards run is not among them."""

RecentOutfits = Callable[[Int32Array], tuple[Int64Array, Int32Array]]
"""Catalog users -> pairs (position among them, outfit) that they were shown lately."""


@dataclass(frozen=True)
class Night:
    """Users, vectors and candidates; outfits are the catalog's with tonight's mixes behind them."""

    model_id: str
    model_sha256: str
    seed: int
    keys: CatalogKeys
    table: ScoringTable
    options: ListOptions
    kinds: Int32Array
    """(n_users,) warm, cold or stranger."""
    model_rows: Int32Array
    """(n_users,) row of `user_vectors`, -1 where the model does not know the user."""
    user_vectors: Float32Array
    """(n_warm, d) of the users that the model knows; unit vectors."""
    positives: Int32Array
    """(n, 2) user, outfit; in lexicographic order."""
    usable: NDArray[np.bool_]
    """(n,) positives whose outfit has a vector: what cold starters are known by."""
    recent_runs: tuple[int, ...]
    """Runs whose outfits are not shown again."""
    indexed: IndexedOutfits | None = None
    """Where lists come from an index instead of a scan."""

    def outfits_of(self, keys: Int32Array) -> Int32Array:
        """(n,) the outfit of each of the database's `keys (n,)`, PADDING where there is none."""
        known = keys < len(self._outfit_of_key)
        return np.where(known, self._outfit_of_key[np.where(known, keys, 0)], PADDING)

    @cached_property
    def _outfit_of_key(self) -> Int32Array:
        place = np.full(self.keys.outfits.max(initial=0) + 1, PADDING, np.int32)
        place[self.keys.outfits] = np.arange(len(self.keys.outfits), dtype=np.int32)
        return place

    @cached_property
    def scorer(self) -> ShardScorer:
        """Makes the lists of shards."""
        return ShardScorer(self.table, self.options, self.indexed)

    @property
    def n_users(self) -> int:
        """How many users are served."""
        return len(self.kinds)

    def count(self, kind: int) -> int:
        """How many users are served so."""
        return int((self.kinds == kind).sum())

    def fingerprint(self, settings: Settings) -> str:
        """sha256 (hex) of all that the lists follow from: equal inputs, equal lists."""
        digest = hashlib.sha256()
        options = settings.model_dump(mode="json")
        facts = {
            "format": FORMAT,
            "model": self.model_sha256,
            "seed": self.seed,
            "recent_runs": self.recent_runs,
            "nightly": {name: options["nightly"][name] for name in NIGHTLY_OF_LISTS},
            **{name: options[name] for name in SETTINGS_OF_LISTS},
        }
        digest.update(json.dumps(facts, sort_keys=True).encode())
        arrays: tuple[NDArray[Any], ...] = (
            self.table.outfit_vectors,
            self.table.outfit_items,
            self.table.allowed,
            self.table.default_outfits,
            self.keys.users,
            self.keys.outfits,
            self.kinds,
            self.model_rows,
            self.positives,
        )
        for array in arrays:
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def who_is_served(catalog: Catalog, model_rows: Int32Array) -> Int32Array:
    """(n_users,) the kind of each user.

    Warm: the model has a vector. Cold: at least one liked outfit has one. Strangers: the others.
    """
    liked = catalog.positives[catalog.outfit_usable[catalog.positives[:, 1]], 0]
    kinds = np.full(catalog.n_users, STRANGER, np.int32)
    kinds[liked] = COLD
    kinds[model_rows >= 0] = WARM
    return kinds


def user_shard(
    night: Night,
    start: int,
    stop: int,
    cold_start: ColdStartSettings,
    exclude_seen: bool,
    recent: RecentOutfits | None,
) -> UserShard:
    """Users `start` to `stop` with their vectors and what they must not get."""
    users = np.arange(start, stop, dtype=np.int32)
    kinds = night.kinds[start:stop]
    rows = np.flatnonzero(kinds != STRANGER)
    vectors = np.empty((len(rows), night.table.outfit_vectors.shape[1]), np.float32)
    warm = kinds[rows] == WARM
    vectors[warm] = night.user_vectors[night.model_rows[users[rows[warm]]]]
    first, last = np.searchsorted(night.positives[:, 0], (start, stop))
    own = night.positives[first:last]
    if not warm.all():
        known = own[night.usable[first:last]]
        vectors[~warm] = newcomer_vectors(users[rows[~warm]], known, night, cold_start)
    place = np.full(stop - start, -1, np.int64)
    place[rows] = np.arange(len(rows))
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
    counts = {}
    if exclude_seen:
        pairs.append((place[own[:, 0] - start], own[:, 1]))
        counts["already liked"] = _candidates_among(pairs[-1], night)
    if recent is not None:
        position, outfits = recent(users)
        pairs.append((place[position], outfits))
        counts["shown lately"] = _candidates_among(pairs[-1], night)
    indptr, indices = _csr(pairs, len(rows))
    return UserShard(users, kinds, rows, vectors, indptr, indices, counts)


def newcomer_vectors(
    cold: Int32Array, positives: Int32Array, night: Night, options: ColdStartSettings
) -> Float32Array:
    """`(n_cold, d)` of users `cold` (ascending), from those of `positives (n, 2)` they own."""
    own = positives[np.isin(positives[:, 0], cold)]
    vectors = cold_start_vectors(
        torch.from_numpy(night.user_vectors),
        torch.from_numpy(night.table.outfit_vectors[own[:, 1]]),
        torch.from_numpy(np.searchsorted(cold, own[:, 0])),
        cold.size,
        options.strategy,
        options.threshold,
        options.temperature,
    )
    return vectors.numpy()


def _candidates_among(pair: tuple[NDArray[Any], NDArray[Any]], night: Night) -> int:
    """How many of the pairs a list could have held."""
    rows, outfits = pair
    return int(night.table.allowed[outfits[rows >= 0]].sum())


def _csr(
    pairs: list[tuple[NDArray[Any], NDArray[Any]]], n_rows: int
) -> tuple[Int64Array, Int64Array]:
    """(indptr, indices) of pairs (row, outfit), rows of -1 left out."""
    rows = np.concatenate([np.zeros(0, np.int64), *(pair[0] for pair in pairs)])
    outfits = np.concatenate([np.zeros(0, np.int64), *(pair[1] for pair in pairs)])
    rows, outfits = rows[rows >= 0], outfits[rows >= 0]
    order = np.lexsort((outfits, rows))
    lengths = np.bincount(rows, minlength=n_rows)
    return np.concatenate([[0], np.cumsum(lengths)]), outfits[order]
