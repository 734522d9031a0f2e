"""Searching the index: every kind against the exact answer; what is barred never comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.errors import RecjobError
from recjob.ranking.index import Kind, OutfitIndex, read_index
from recjob.ranking.index_build import build_index
from recjob.ranking.top_k import top_k
from recjob.settings import IndexSettings

KINDS: tuple[Kind, ...] = ("flat", "ivf", "hnsw")
K = 10


def clustered(n: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around forty centres, as trained outfit vectors lie."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).normal(size=(40, 32))
    drawn = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.normal(size=(n, 32))
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("f")
    return unit


VECTORS = clustered(4000, 0)
QUERIES = clustered(300, 1) * np.random.default_rng(2).uniform(0.1, 1, (300, 1)).astype("f")
IDS = [f"outfit-{i}" for i in range(len(VECTORS))]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, OutfitIndex]:
    found: dict[Kind, OutfitIndex] = {}
    for kind in KINDS:
        path = tmp_path_factory.mktemp(kind) / "x.faiss"
        options = IndexSettings(kind=kind, build_effort=80, search_effort=128)
        build_index(path, VECTORS, IDS, QUERIES, K, options)
        found[kind] = read_index(path, IDS)
    return found


def csr(lists: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.cumsum([0, *map(len, lists)]), np.concatenate(lists).astype(np.int32)


def hits(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(*rows)) for rows in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("kind", KINDS)
def test_finds_what_the_exact_scan_finds(indexes: dict[Kind, OutfitIndex], kind: Kind) -> None:
    exact, scores = top_k(QUERIES, VECTORS, K)
    rows, found = indexes[kind].search_allowed(QUERIES, K)
    assert hits(rows, exact) > 0.97 * K
    same = rows == exact
    np.testing.assert_array_equal(found[same], scores[same])  # to the last bit
    assert found.dtype == np.float32
    if kind == "flat":
        np.testing.assert_array_equal(rows, exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.01])
def test_filters_are_never_violated_and_lists_are_full(
    indexes: dict[Kind, OutfitIndex], kind: Kind, share: float
) -> None:
    rng = np.random.default_rng(3)
    allowed = rng.random(len(VECTORS)) < share
    best = top_k(QUERIES, VECTORS, 30, allowed=allowed)[0]
    # Some exclude the best that they have, one of them all but three of what is allowed.
    seen = [best[q, : q % 25] if q % 3 else np.empty(0, np.int64) for q in range(len(QUERIES))]
    seen[7] = np.flatnonzero(allowed)[3:]
    exclude = csr(seen)
    rows, scores = indexes[kind].search_allowed(QUERIES, K, allowed=allowed, exclude=exclude)
    exact, exact_scores = top_k(QUERIES, VECTORS, K, allowed=allowed, exclude=exclude)
    assert (rows[7] >= 0).sum() == 3
    assert ((rows >= 0) == (exact >= 0)).all()
    assert allowed[rows[rows >= 0]].all()
    assert not any(np.intersect1d(row, own).size for row, own in zip(rows, seen, strict=True))
    assert all(len(np.unique(row)) == len(row) for row in np.delete(rows, 7, axis=0))
    assert hits(rows, exact) > 0.93 * K
    same = rows == exact
    np.testing.assert_array_equal(scores[same], exact_scores[same])
    assert (scores[:, :-1] >= scores[:, 1:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_few_allowed_none_allowed_and_long_lists(
    indexes: dict[Kind, OutfitIndex], kind: Kind
) -> None:
    index = indexes[kind]
    none = np.zeros(len(VECTORS), np.bool_)
    rows, scores = index.search_allowed(QUERIES[:2], 3, allowed=none)
    np.testing.assert_array_equal(rows, -1)
    np.testing.assert_array_equal(scores, -np.inf)
    few = none.copy()
    few[[5, 3999]] = True
    rows, scores = index.search_allowed(QUERIES[:9], 50, allowed=few)
    assert {tuple(row) for row in np.sort(rows[:, :2], axis=1)} == {(5, 3999)}
    np.testing.assert_array_equal(rows[:, 2:], -1)
    assert index.search_allowed(QUERIES[:0], 3)[0].shape == (0, 3)


def test_ties_go_to_the_lower_row(tmp_path: Path) -> None:
    repeated = np.repeat(clustered(8, 4), 2, axis=0)
    index = read_index(build_index(tmp_path / "x.faiss", repeated, IDS[:16], QUERIES, 4).path)
    rows, _ = index.search_allowed(QUERIES, 4)
    np.testing.assert_array_equal(rows, top_k(QUERIES, repeated, 4)[0])


def test_queries_alone_and_together_get_the_same(indexes: dict[Kind, OutfitIndex]) -> None:
    for kind, index in indexes.items():
        together = index.search_allowed(QUERIES[:40], K)
        for query in range(40):
            alone = index.search_allowed(QUERIES[query : query + 1], K)
            np.testing.assert_array_equal(alone[0][0], together[0][query], err_msg=kind)
            np.testing.assert_array_equal(alone[1][0], together[1][query])


def test_many_excluded_fill_no_memory(
    indexes: dict[Kind, OutfitIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recjob.ranking.index.PLACES_PER_BLOCK", 500)
    rng = np.random.default_rng(6)
    exclude = csr([rng.permutation(len(VECTORS))[: rng.integers(0, 900)] for _ in QUERIES])
    rows, scores = indexes["flat"].search_allowed(QUERIES, K, exclude=exclude)
    exact = top_k(QUERIES, VECTORS, K, exclude=exclude)
    np.testing.assert_array_equal(rows, exact[0])
    np.testing.assert_array_equal(scores, exact[1])


def test_a_pair_of_files_that_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    path = build_index(tmp_path / "a.faiss", VECTORS[:500], IDS[:500], QUERIES, 5).path
    other = build_index(tmp_path / "b.faiss", VECTORS[:400], IDS[:400], QUERIES, 5).path
    with pytest.raises(RecjobError, match="other outfits"):
        read_index(path, IDS[:500][::-1])
    path.write_bytes(other.read_bytes())
    with pytest.raises(RecjobError, match="does not match its list of ids"):
        read_index(path)
    (tmp_path / "b.faiss.ids.json").write_text('{"sha256": "0", "outfit_ids": []}')
    with pytest.raises(RecjobError, match="of another version"):
        read_index(other)
    path.unlink()
    with pytest.raises(RecjobError, match="cannot be read"):
        read_index(path)
