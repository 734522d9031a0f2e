"""Building the index: the same from the same, measured, and refused where it finds too little."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from recjob.errors import RefusedError
from recjob.ranking.index import Kind, read_index
from recjob.ranking.index_build import build_index
from recjob.ranking.top_k import top_k
from recjob.settings import IndexSettings

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(800, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
QUERIES = RNG.normal(size=(300, 16)).astype(np.float32)
IDS = [f"outfit-{i}" for i in range(800)]
KINDS: tuple[Kind, ...] = ("flat", "ivf", "hnsw")


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_and_nothing_else(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "deep" / "outfits.faiss"
    written = build_index(path, VECTORS, IDS, QUERIES, 10, IndexSettings(kind=kind))
    assert (written.n_outfits, written.kind, written.built) == (800, kind, True)
    assert read_index(path, IDS).outfit_ids[3] == "outfit-3"
    assert sorted(found.name for found in path.parent.iterdir()) == [
        "outfits.faiss",
        "outfits.faiss.ids.json",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_recall_is_that_of_the_file(tmp_path: Path, kind: Kind) -> None:
    options = IndexSettings(kind=kind, probes=3, search_effort=10, links=4, recall_floor=0)
    written = build_index(tmp_path / "x.faiss", VECTORS, IDS, QUERIES, 10, options)
    rows = read_index(written.path).search(QUERIES[::2], 10)[0]  # at most 256 of the 300
    exact = top_k(QUERIES[::2], VECTORS, 10)[0]
    share = np.mean([np.isin(a, b).mean() for a, b in zip(rows, exact, strict=True)])
    assert written.recall == pytest.approx(share, abs=1e-9)
    assert (written.recall == 1) == (kind == "flat")
    assert written.recall > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vectors_give_the_same_bytes(tmp_path: Path, kind: Kind) -> None:
    options = IndexSettings(kind=kind, recall_floor=0)
    first = build_index(tmp_path / "a.faiss", VECTORS, IDS, QUERIES, 5, options, seed=3)
    second = build_index(tmp_path / "b.faiss", VECTORS, IDS, QUERIES, 5, options, seed=3)
    assert first.sha256 == second.sha256


def test_a_reader_searches_as_the_builder_did(tmp_path: Path) -> None:
    path = tmp_path / "x.faiss"
    few, many = (
        build_index(path, VECTORS, IDS, QUERIES, 10, IndexSettings(kind="ivf", probes=probes))
        if probes == 113
        else build_index(
            path, VECTORS, IDS, QUERIES, 10, IndexSettings(kind="ivf", probes=1, recall_floor=0)
        )
        for probes in (1, 113)
    )
    assert few.recall < many.recall == 1
    assert read_index(path).probes == 113
    assert json.loads((tmp_path / "x.faiss.ids.json").read_text())["kind"] == "ivf"


def test_built_only_when_something_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.faiss"
    options = IndexSettings(kind="ivf", recall_floor=0)

    def built(**changes: object) -> bool:
        chosen = options.model_copy(update=changes)
        return build_index(path, VECTORS, IDS, QUERIES, 10, chosen).built

    assert built()
    before = path.stat()
    again = build_index(path, VECTORS, IDS, QUERIES, 10, options)
    assert not again.built
    assert again.recall == pytest.approx(
        json.loads(path.with_name("x.faiss.ids.json").read_text())["recall"]
    )
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not built(recall_floor=again.recall)
    assert built(probes=7)
    assert built(kind="hnsw")
    other = VECTORS.copy()
    other[5] = -other[5]
    assert build_index(path, other, IDS, QUERIES, 10, options).built
    assert build_index(path, other, IDS[::-1], QUERIES, 10, options).built
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert build_index(path, other, IDS[::-1], QUERIES, 10, options).built
    assert read_index(path, IDS[::-1])


def test_too_low_a_recall_is_refused_and_the_index_before_stays(tmp_path: Path) -> None:
    path = build_index(tmp_path / "x.faiss", VECTORS, IDS, QUERIES, 10).path
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    poor = IndexSettings(kind="ivf", probes=1)
    with pytest.raises(RefusedError) as refused:
        build_index(path, VECTORS, IDS, QUERIES, 10, poor)
    for words in ("ivf index finds 0.", "recall_floor = 0.95", "raise index.probes (now 1)"):
        assert words in str(refused.value)
    with pytest.raises(RefusedError, match=r"raise index\.search_effort"):
        build_index(
            path, VECTORS, IDS, QUERIES, 10, IndexSettings(kind="hnsw", links=2, search_effort=1)
        )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    # A floor that was raised since refuses what was good enough.
    written = build_index(
        path, VECTORS, IDS, QUERIES, 10, poor.model_copy(update={"recall_floor": 0})
    )
    assert written.built
    with pytest.raises(RefusedError):
        build_index(path, VECTORS, IDS, QUERIES, 10, poor)


def test_a_full_disk_leaves_the_index_before(tmp_path: Path) -> None:
    path = build_index(tmp_path / "x.faiss", VECTORS, IDS, QUERIES, 10).path
    (tmp_path / "x.faiss.writing").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as full:
        build_index(path, VECTORS[::-1], IDS, QUERIES, 10)
    assert full.value.errno == errno.ENOSPC
    np.testing.assert_array_equal(
        read_index(path, IDS).search(QUERIES, 10)[0], top_k(QUERIES, VECTORS, 10)[0]
    )
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_index_or_to_ask(tmp_path: Path, kind: Kind) -> None:
    options = IndexSettings(kind=kind)
    for name, vectors, queries in (
        ("a", VECTORS[:0], QUERIES),
        ("b", VECTORS[:50], QUERIES[:0]),
        ("c", VECTORS[:3], QUERIES),
    ):
        path = tmp_path / f"{name}.faiss"
        assert build_index(path, vectors, IDS[: len(vectors)], queries, 5, options).recall == 1
        assert read_index(path).search_allowed(QUERIES[:2], 2)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="800 vectors for 3 outfits"):
        build_index(path, VECTORS, IDS[:3], QUERIES, 5)


def test_duplicates_do_not_count_as_misses(tmp_path: Path) -> None:
    repeated = np.repeat(VECTORS[:32], 25, axis=0)
    assert build_index(tmp_path / "x.faiss", repeated, IDS, QUERIES, 30).recall == 1.0
