"""The benchmark of exact top-K, on a size that takes no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recjob.bench.topk import TopKWork, bench_topk, print_topk
from recjob.bench.topk_rivals import FAISS, our_engines
from recjob.errors import DataError
from recjob.settings import Settings


def student(folder: Path) -> Path:
    """The files of an embedded student, as the jobs write them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    file = folder / "embeddings.safetensors"
    save_file({"outfits": rng.normal(size=(300, 16)).astype(np.float32)}, file)
    users = {"users.weight": rng.normal(size=(7, 16)).astype(np.float32)}
    save_file(users, folder / "users.safetensors")
    return file


def test_all_are_measured_and_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student(tmp_path / "artifacts" / "models" / "student-1")
    work = TopKWork(users=9, outfits=500, dim=16, k=5, threads=1, repeats=2)
    result = bench_topk(Settings(home=tmp_path), work)
    assert [found.name for found in result.data_sets] == ["random", "trained", "near-duplicates"]
    assert [(found.users, found.outfits) for found in result.data_sets] == [
        (9, 500),
        (7, 300),
        (9, 500),
    ]
    for found in result.data_sets:
        assert found.equal
        rows = {row.name: row for row in found.measured}
        assert {f"ours {engine}" for engine in our_engines()} <= rows.keys()
        assert {"torch matmul + topk", "product alone fp32"} <= rows.keys()
        assert rows[FAISS].times_faiss == 1
        assert rows["product alone fp32"].largest_difference is None
        for row in rows.values():
            pairs = found.users * found.outfits
            assert row.billion_pairs_per_second == pytest.approx(pairs / row.seconds / 1e9)
    print_topk(result)
    printed = capsys.readouterr().out
    for words in ("ours fp32", FAISS, "near-duplicates", "results equal", "x FAISS"):
        assert words in printed


def test_without_trained_vectors_it_says_so(tmp_path: Path) -> None:
    work = TopKWork(users=3, outfits=40, dim=8, k=50, threads=1, repeats=1)
    result = bench_topk(Settings(home=tmp_path), work)
    assert [found.name for found in result.data_sets] == ["random", "near-duplicates"]
    assert any("no trained vectors" in note for note in result.notes)
    assert {found.k for found in result.data_sets} == {40}


def test_a_file_without_vectors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "embeddings.safetensors"
    save_file({"features": np.zeros((2, 2), np.float32)}, file)
    for wrong in (file, tmp_path / "missing.safetensors"):
        work = TopKWork(users=3, outfits=9, dim=8, k=2, threads=1, repeats=1, vectors=wrong)
        with pytest.raises(DataError, match="give the embeddings"):
            bench_topk(Settings(home=tmp_path), work)
