"""A shard of the night: what is known of a range of users, and their lists.

Arrays that can be written as bytes, so that any machine can do a shard: `ShardScorer` gives the
same result in this process and on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load, save

from recjob.catalog.catalog import BoolArray, Float32Array, Int32Array, Int64Array
from recjob.settings import RuleSettings, VarietySettings

COUNTS: Final = "counts"
"""The field that is no array: each of its counts travels as a tensor of one number."""


class ListOptions(BaseModel):
    """How lists are made."""

    model_config = ConfigDict(frozen=True)

    length: int
    """Places of a list, the spare ones included."""
    rules: RuleSettings
    variety: VarietySettings


@dataclass(frozen=True)
class ScoringTable:
    """What the shards of a night share; all outfit indices are rows of it."""

    outfit_vectors: Float32Array
    """(N, d)"""
    outfit_items: Int32Array
    """(N, M), padded with -1."""
    outfit_patterns: Int32Array
    """(N,) which categories an outfit is made of; see `category_patterns`."""
    allowed: BoolArray
    """(N,) outfits that may be recommended tonight."""
    default_outfits: Int32Array
    """(K,) the list of users without a vector, padded with -1."""
    default_scores: Float32Array
    """(K,)"""

    def to_bytes(self) -> bytes:
        """For another machine."""
        return _to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoringTable:
        """What `to_bytes` gave."""
        return cls(**load(data))


@dataclass(frozen=True)
class UserShard:
    """A range of users before scoring."""

    users: Int32Array
    """(n,) indices of the catalog."""
    kinds: Int32Array
    """(n,) how each is served; passed through."""
    rows: Int64Array
    """(m,) places in `users` of those with a vector, ascending."""
    vectors: Float32Array
    """(m, d)"""
    exclude_indptr: Int64Array
    """(m + 1,) CSR of the outfits that each of them must not get,"""
    exclude_indices: Int64Array
    """and which."""
    counts: Mapping[str, int]
    """How many candidates that leaves out, by reason; passed through."""

    def to_bytes(self) -> bytes:
        """For another machine."""
        return _to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> UserShard:
        """What `to_bytes` gave."""
        return cls(**_with_counts(data))


@dataclass(frozen=True)
class ListShard:
    """The lists of a range of users."""

    users: Int32Array
    """(n,)"""
    kinds: Int32Array
    """(n,)"""
    scored: BoolArray
    """(n,) True where the list comes from a vector, False where it is the default one."""
    outfits: Int32Array
    """(n, K), best first, padded with -1."""
    scores: Float32Array
    """(n, K)"""
    counts: Mapping[str, int]
    """Candidates that were left out of lists, by reason."""

    def to_bytes(self) -> bytes:
        """For the work folder."""
        return _to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> ListShard:
        """What `to_bytes` gave."""
        return cls(**_with_counts(data))


def _to_bytes(value: ScoringTable | UserShard | ListShard) -> bytes:
    tensors: dict[str, NDArray[Any]] = {}
    for part in fields(value):
        content = getattr(value, part.name)
        if part.name == COUNTS:
            tensors |= {
                f"{COUNTS}:{reason}": np.array([count], np.int64)
                for reason, count in content.items()
            }
        else:
            tensors[part.name] = np.ascontiguousarray(content)
    return save(tensors)


def _with_counts(data: bytes) -> dict[str, Any]:
    tensors: dict[str, Any] = load(data)
    names = sorted(name for name in tensors if name.startswith(f"{COUNTS}:"))
    counts = {name.removeprefix(f"{COUNTS}:"): int(tensors.pop(name)[0]) for name in names}
    return {**tensors, COUNTS: counts}
