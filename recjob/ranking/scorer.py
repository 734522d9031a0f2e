"""From a range of users' vectors to their lists, in this process or on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Float32Array, Int64Array
from recjob.ranking.exact import EMPTY, best, decode, encode
from recjob.ranking.index import OutfitIndex
from recjob.ranking.lists import ListPlan, Search, fill_lists
from recjob.ranking.shard import ListOptions, ListShard, ScoringTable, UserShard
from recjob.ranking.top_k import fastest_engine, top_k

Exclusions = tuple[Int64Array, Int64Array]


@dataclass(frozen=True)
class IndexedOutfits:
    """An index of most outfits of a table; the others are scanned."""

    index: OutfitIndex
    outfits: Int64Array
    """(R,) the outfit of each row of the index, -1 where the table has none or another vector."""


class ShardScorer:
    """Makes the lists of shards of one night."""

    def __init__(
        self, table: ScoringTable, options: ListOptions, indexed: IndexedOutfits | None = None
    ) -> None:
        self._table = table
        self._plan = ListPlan.of(
            options.length,
            table.allowed,
            table.outfit_vectors,
            table.outfit_items,
            table.outfit_patterns,
            options.rules,
            options.variety,
        )
        self._indexed = indexed
        if indexed is not None:
            scanned = table.allowed.copy()
            scanned[indexed.outfits[indexed.outfits != PADDING]] = False
            self._scanned = scanned

    def __call__(self, shard: UserShard) -> ListShard:
        """The list of each user: the best by inner product, or the default one without a vector."""
        n = len(shard.users)
        outfits = np.tile(self._table.default_outfits, (n, 1))
        scores = np.tile(self._table.default_scores, (n, 1))
        scored = np.zeros(n, np.bool_)
        counts = dict(shard.counts)
        if len(shard.rows):
            choice = fill_lists(self._search(shard), len(shard.rows), self._plan)
            outfits[shard.rows] = choice.outfits
            scores[shard.rows] = choice.scores
            scored[shard.rows] = True
            counts |= {reason: count for reason, count in choice.counts.items() if count}
        return ListShard(shard.users, shard.kinds, scored, outfits, scores, counts)

    def engine(self, shard: UserShard) -> str:
        """What scores it: "index", or the engine of `top_k`."""
        if self._indexed is not None:
            return "index"
        return fastest_engine(len(shard.rows) * len(self._table.outfit_vectors))

    def _search(self, shard: UserShard) -> Search:
        exclude = shard.exclude_indptr, shard.exclude_indices

        def search(rows: Int64Array, depth: int) -> tuple[NDArray[Any], Float32Array]:
            whole = len(rows) == len(shard.vectors)
            vectors = shard.vectors if whole else shard.vectors[rows]
            left_out = exclude if whole else _rows_of(exclude, rows)
            if self._indexed is None:
                return top_k(
                    vectors,
                    self._table.outfit_vectors,
                    depth,
                    exclude=left_out,
                    allowed=self._table.allowed,
                )
            return self._search_index(self._indexed, vectors, left_out, depth)

        return search

    def _search_index(
        self, indexed: IndexedOutfits, vectors: Float32Array, exclude: Exclusions, depth: int
    ) -> tuple[NDArray[Any], Float32Array]:
        """The best of what the index finds and of a scan of the outfits that it lacks."""
        table = self._table
        in_table = indexed.outfits != PADDING
        row_of = np.full(len(table.allowed), PADDING, np.int64)
        row_of[indexed.outfits[in_table]] = np.flatnonzero(in_table)
        rows, found_scores = indexed.index.search_allowed(
            vectors,
            depth,
            allowed=in_table & table.allowed[indexed.outfits],
            exclude=_mapped(exclude, row_of),
        )
        found = np.where(rows >= 0, indexed.outfits[rows], PADDING)
        scanned, scanned_scores = top_k(
            vectors, table.outfit_vectors, depth, exclude=exclude, allowed=self._scanned
        )
        outfits = np.concatenate([found, scanned], axis=1)
        scores = np.concatenate([found_scores, scanned_scores], axis=1)
        keys = np.where(outfits == PADDING, EMPTY, encode(scores, np.maximum(outfits, 0)))
        return decode(best(keys, depth))


def _rows_of(exclude: Exclusions, rows: Int64Array) -> Exclusions:
    """The CSR lists of some rows."""
    indptr, indices = exclude
    lengths = indptr[rows + 1] - indptr[rows]
    ends = np.cumsum(lengths)
    within = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    return np.concatenate([[0], ends]), indices[np.repeat(indptr[rows], lengths) + within]


def _mapped(exclude: Exclusions, row_of: Int64Array) -> Exclusions:
    """The CSR lists with every outfit replaced by its row, those without one left out."""
    indptr, indices = exclude
    rows = row_of[indices]
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[rows >= 0]
    lengths = np.bincount(owner, minlength=len(indptr) - 1)
    return np.concatenate([[0], np.cumsum(lengths)]), rows[rows >= 0]
