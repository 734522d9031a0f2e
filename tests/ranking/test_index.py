from pathlib import Path

import numpy as np
import pytest

from recjob.errors import RecjobError
from recjob.ranking.index import build_index, read_index
from recjob.ranking.top_k import top_k

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(500, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(300, 16)).astype(np.float32)
IDS = [f"outfit-{i}" for i in range(500)]


def test_the_file_finds_what_top_k_finds(tmp_path: Path) -> None:
    written = build_index(tmp_path / "deep" / "outfits.faiss", VECTORS, IDS, QUERIES, 10)
    assert written.recall == 1.0
    assert written.n_outfits == 500
    index = read_index(written.path, IDS)
    np.testing.assert_array_equal(index.search(QUERIES, 10)[0], top_k(QUERIES, VECTORS, 10)[0])
    assert index.outfit_ids[3] == "outfit-3"
    assert sorted(path.name for path in written.path.parent.iterdir()) == [
        "outfits.faiss",
        "outfits.faiss.ids.json",
    ]


def test_duplicates_do_not_count_as_misses(tmp_path: Path) -> None:
    repeated = np.repeat(VECTORS[:20], 25, axis=0)
    assert build_index(tmp_path / "x.faiss", repeated, IDS, QUERIES, 30).recall == 1.0


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    first = build_index(tmp_path / "a.faiss", VECTORS, IDS, QUERIES, 5)
    second = build_index(tmp_path / "b.faiss", VECTORS, IDS, QUERIES, 5)
    assert first.sha256 == second.sha256


def test_nothing_to_index_or_to_ask(tmp_path: Path) -> None:
    assert build_index(tmp_path / "a.faiss", VECTORS[:0], [], QUERIES, 5).recall == 1.0
    assert build_index(tmp_path / "b.faiss", VECTORS, IDS, QUERIES[:0], 5).recall == 1.0
    assert build_index(tmp_path / "c.faiss", VECTORS[:3], IDS[:3], QUERIES, 5).recall == 1.0


def test_a_pair_of_files_that_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    path = build_index(tmp_path / "a.faiss", VECTORS, IDS, QUERIES, 5).path
    other = build_index(tmp_path / "b.faiss", VECTORS[:400], IDS[:400], QUERIES, 5).path
    with pytest.raises(RecjobError, match="other outfits"):
        read_index(path, IDS[::-1])
    path.write_bytes(other.read_bytes())
    with pytest.raises(RecjobError, match="does not match its list of ids"):
        read_index(path)
    path.unlink()
    with pytest.raises(RecjobError, match="cannot be read"):
        read_index(path)
    with pytest.raises(ValueError, match="500 vectors for 3 outfits"):
        build_index(path, VECTORS, IDS[:3], QUERIES, 5)
