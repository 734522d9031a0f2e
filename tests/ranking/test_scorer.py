"""Lists of a shard against naive ones, and from an index against those from a scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.ranking.index import OutfitIndex, read_index
from recjob.ranking.index_build import build_index
from recjob.ranking.scorer import IndexedOutfits, ShardScorer
from recjob.ranking.shard import ListOptions, ListShard, ScoringTable, UserShard
from recjob.settings import RuleSettings, VarietySettings

N, USERS, K, DIM = 60, 20, 6, 8
DEFAULT = np.array([5, 9, 2, 7, -1, -1], np.int32)


@dataclass(frozen=True)
class Draw:
    """A night with users of all kinds."""

    table: ScoringTable
    shard: UserShard

    def lists(
        self,
        rules: RuleSettings = RuleSettings(),  # noqa: B008  (frozen)
        variety: VarietySettings = VarietySettings(),  # noqa: B008
        indexed: IndexedOutfits | None = None,
    ) -> ListShard:
        options = ListOptions(length=K, rules=rules, variety=variety)
        return ShardScorer(self.table, options, indexed)(self.shard)

    def ranked(self, row: int) -> list[int]:
        """All outfits that the user with vector `row` may get, best first."""
        indptr = self.shard.exclude_indptr
        excluded = set(self.shard.exclude_indices[indptr[row] : indptr[row + 1]].tolist())
        scores = self.scores(row)
        may = [i for i in range(N) if self.table.allowed[i] and i not in excluded]
        return sorted(may, key=lambda outfit: (-scores[outfit], outfit))

    def scores(self, row: int) -> NDArray[np.float32]:
        vectors = self.table.outfit_vectors.astype(np.float64)
        scores: NDArray[np.float64] = vectors @ self.shard.vectors[row].astype(np.float64)
        return scores.astype(np.float32)


@pytest.fixture
def draw() -> Draw:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(N, DIM)).astype(np.float32)
    vectors[40:50] = vectors[30:40]  # ties
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.sort(rng.choice(USERS, 15, replace=False))
    excluded = [np.sort(rng.choice(N, rng.integers(0, 9), replace=False)) for _ in rows]
    table = ScoringTable(
        outfit_vectors=vectors,
        outfit_items=rng.integers(0, 12, size=(N, 2), dtype=np.int32),
        outfit_patterns=rng.integers(0, 5, size=N, dtype=np.int32),
        allowed=rng.random(N) < 0.8,
        default_outfits=DEFAULT,
        default_scores=np.linspace(1, 0, K, dtype=np.float32),
    )
    shard = UserShard(
        users=np.arange(100, 100 + USERS, dtype=np.int32),
        kinds=rng.integers(0, 3, size=USERS, dtype=np.int32),
        rows=rows,
        vectors=rng.normal(size=(len(rows), DIM)).astype(np.float32),
        exclude_indptr=np.cumsum([0, *map(len, excluded)]),
        exclude_indices=np.concatenate(excluded),
        counts={"already liked": 12},
    )
    return Draw(table, shard)


def assert_equal(found: ListShard, expected: ListShard) -> None:
    np.testing.assert_array_equal(found.outfits, expected.outfits)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.scored, expected.scored)


def test_the_best_of_those_with_a_vector_and_the_default_for_others(draw: Draw) -> None:
    lists = draw.lists()
    np.testing.assert_array_equal(lists.users, draw.shard.users)
    np.testing.assert_array_equal(lists.kinds, draw.shard.kinds)
    assert np.flatnonzero(lists.scored).tolist() == draw.shard.rows.tolist()
    assert lists.counts["already liked"] == 12
    for row, user in enumerate(draw.shard.rows):
        best = draw.ranked(row)[:K]
        assert lists.outfits[user].tolist() == best
        np.testing.assert_array_equal(lists.scores[user], draw.scores(row)[best])
    for user in np.flatnonzero(~lists.scored):
        np.testing.assert_array_equal(lists.outfits[user], DEFAULT)
        np.testing.assert_array_equal(lists.scores[user], draw.table.default_scores)


def test_nobody_with_a_vector(draw: Draw) -> None:
    none = np.empty(0, np.int64)
    shard = replace(
        draw.shard,
        rows=none,
        vectors=draw.shard.vectors[:0],
        exclude_indptr=np.zeros(1, np.int64),
        exclude_indices=none,
    )
    lists = replace(draw, shard=shard).lists()
    assert not lists.scored.any()
    np.testing.assert_array_equal(lists.outfits, np.tile(DEFAULT, (USERS, 1)))


def test_caps_of_the_settings(draw: Draw) -> None:
    rules = RuleSettings(max_outfits_per_item=1, max_per_category_pattern=2)
    lists = draw.lists(rules)
    items, patterns = draw.table.outfit_items, draw.table.outfit_patterns
    for row, user in enumerate(draw.shard.rows):
        chosen: list[int] = []
        for outfit in draw.ranked(row):
            worn = {item for other in chosen for item in items[other].tolist()}
            alike = sum(patterns[other] == patterns[outfit] for other in chosen)
            if len(chosen) < K and alike < 2 and worn.isdisjoint(items[outfit].tolist()):
                chosen.append(outfit)
        assert lists.outfits[user].tolist() == chosen + [-1] * (K - len(chosen))
    assert sum(lists.counts.values()) > 12  # what was left out is told


def test_variety_of_the_settings(draw: Draw) -> None:
    pool = 12
    lists = draw.lists(variety=VarietySettings(strength=0.5, pool=pool))
    vectors = draw.table.outfit_vectors.astype(np.float64)
    for row, user in enumerate(draw.shard.rows):
        best, scores = draw.ranked(row)[:pool], draw.scores(row).astype(np.float64)
        spread = scores[best[0]] - scores[best[-1]]
        chosen = best[:1]
        assert lists.outfits[user, 0] == best[0]
        for outfit in lists.outfits[user, 1:].tolist():
            value = {
                other: 0.5 * (scores[other] - scores[best[-1]]) / spread
                - 0.5 * (vectors[chosen] @ vectors[other]).max()
                for other in best
                if other not in chosen
            }
            # Cosines are taken in steps of 1/32767.
            assert value[outfit] == pytest.approx(max(value.values()), abs=1e-3)
            chosen.append(outfit)


def flat_index(path: Path, vectors: NDArray[np.float32]) -> OutfitIndex:
    ids = [f"o{row}" for row in range(len(vectors))]
    build_index(path, vectors, ids, vectors[:5], K)
    return read_index(path)


@pytest.mark.parametrize("capped", [False, True])
def test_a_flat_index_finds_what_a_scan_finds(draw: Draw, tmp_path: Path, capped: bool) -> None:
    order = np.random.default_rng(5).permutation(N)
    indexed = IndexedOutfits(
        flat_index(tmp_path / "outfits.faiss", draw.table.outfit_vectors[order]), order
    )
    rules = RuleSettings(max_outfits_per_item=2) if capped else RuleSettings()
    assert_equal(draw.lists(rules, indexed=indexed), draw.lists(rules))


@pytest.mark.parametrize("known", [0, 1, 25, 59])
def test_outfits_that_the_index_lacks_are_scanned(draw: Draw, tmp_path: Path, known: int) -> None:
    """Rows of outfits that are gone, or that have another vector now, are not used."""
    rng = np.random.default_rng(known)
    vectors = draw.table.outfit_vectors.copy()
    outfits = rng.permutation(N)
    vectors[outfits[known:]] = rng.normal(size=(N - known, DIM))  # what the index still holds
    place = np.where(np.arange(N) < known, outfits, -1)
    indexed = IndexedOutfits(flat_index(tmp_path / "outfits.faiss", vectors[outfits]), place)
    assert_equal(draw.lists(indexed=indexed), draw.lists())
