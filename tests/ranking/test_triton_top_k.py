"""The GPU engine of exact top-K without a GPU: interpreted, compiled, and what surrounds it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import triton  # type: ignore[import-untyped]
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]
from triton.compiler import ASTSource  # type: ignore[import-untyped]

from recjob.errors import RecjobError
from recjob.ranking import triton_top_k
from recjob.ranking.exact import EMPTY, encode, tree_sum
from recjob.ranking.triton_kernels import scan_tiles, score_pairs
from recjob.ranking.triton_search import TILE, Plan, _bits
from recjob.ranking.triton_vectors import encode as device_encode
from recjob.ranking.triton_vectors import in_leaf_order, indices_of, leaf_order, scores_of
from tests.ranking.test_top_k import vectors

ROOT = Path(__file__).resolve().parents[2]
LEAST_CASES = 45
"""The contract's and our own; fewer means that a file or the name of the engine was lost."""
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024 // 2}
"""Of one program: one fits on a multiprocessor of Ampere, two on one of Hopper."""


def test_in_the_interpreter() -> None:
    """The contract, and cases of its own; Triton reads the variable when it is first imported."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += ["-p", "tests.ranking.triton_contract", "-k", "triton and not memory"]
    command += ["tests/ranking/test_top_k.py", "tests/ranking/triton_cases.py"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed", result.stdout, re.MULTILINE)
    assert passed is not None, result.stdout
    assert int(passed[1]) >= LEAST_CASES


@pytest.mark.parametrize(
    ("architecture", "instruction", "width", "chunk"),
    [(80, "mma.sync", 128, 128), (90, "wgmma", 128, 128), (90, "wgmma", 256, 64)],
)
def test_the_scan_compiles_for_gpus(
    architecture: int,
    instruction: str,
    width: int,
    chunk: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On tensor cores, with tiles fetched ahead, in the memory that there is."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"users": "*fp16", "outfits": "*fp16", "lines": "*fp32", "words": "*i64"}
    types |= {"barred": "*i32", "counts": "*i32"}
    shape = {"width": width, "chunk": chunk, "has_barred": True}
    shape |= {"block_rows": TILE.rows, "block_columns": TILE.columns}
    compiled = compile_for(architecture, scan_tiles, types, shape, TILE.warps, TILE.stages)
    assert instruction in compiled.asm["ptx"]
    assert "cp.async" in compiled.asm["ptx"]
    assert compiled.metadata.shared <= SHARED_MEMORY[architecture]


def test_exact_scores_compile_without_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"users": "*fp32", "outfits": "*fp32", "rows": "*i64", "columns": "*i32"}
    shape = {"leaves": 128, "levels": 7, "block": 32}
    compiled = compile_for(90, score_pairs, types | {"scores": "*fp64"}, shape, 4, 3)
    assert "add.rn.f64" in compiled.asm["ptx"] or "add.f64" in compiled.asm["ptx"]
    assert "add.f32" not in compiled.asm["ptx"]
    assert "fma" not in compiled.asm["ptx"]


def compile_for(
    architecture: int,
    kernel: triton.JITFunction,
    types: dict[str, str],
    shape: dict[str, int],
    warps: int,
    stages: int,
) -> triton.compiler.CompiledKernel:
    """The kernel for a GPU that need not be there; its other arguments are int32."""
    signature = dict.fromkeys(kernel.arg_names, "i32") | types | dict.fromkeys(shape, "constexpr")
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in types}
    source = ASTSource(fn=kernel, signature=signature, constexprs=shape, attrs=aligned)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def test_without_a_gpu_the_message_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecjobError, match=r"needs a CUDA device .* another engine"):
        triton_top_k.triton_top_k(vectors(0, 2, 4), vectors(1, 3, 4), 1)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 6, 7, 11, 16, 24, 100, 127, 128, 129])
def test_leaf_order_halves_to_the_sum_of_the_tree(width: int) -> None:
    terms = np.random.default_rng(width).normal(size=(20, width)) ** 9
    leaves = in_leaf_order(torch.from_numpy(terms), leaf_order(width))
    while leaves.shape[1] > 1:
        first, second = leaves.chunk(2, dim=1)
        leaves = first + second
    np.testing.assert_array_equal(leaves[:, 0].numpy(), tree_sum(terms.copy()))


def test_keys_are_those_of_every_engine() -> None:
    scores = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, 1e-45, 3e38], np.float32)
    indices = np.array([0, 1, 2, 2**31, 2**32 - 2, 5, 6, 7])
    keys = device_encode(torch.from_numpy(scores), torch.from_numpy(indices))
    np.testing.assert_array_equal(keys.numpy(), encode(scores, indices))
    np.testing.assert_array_equal(scores_of(keys).numpy(), scores)
    np.testing.assert_array_equal(indices_of(keys).numpy(), indices)
    empty = torch.tensor([EMPTY])
    assert (indices_of(empty), scores_of(empty)) == (torch.tensor([-1]), torch.tensor([-np.inf]))


def test_bits_of_words() -> None:
    words = [0, 1, 2**31, 2**32 - 1, 0x80000001, 0x12345678]
    entries = torch.tensor([(7 << 32) | word for word in words])
    assert _bits(entries).tolist() == [word.bit_count() for word in words]


def test_the_rank_of_the_first_line_misses_few_users() -> None:
    """Of 1 M outfits the 100 best have a Poisson number in the sample of 8192."""
    plan = Plan.of(100, 1_000_000, 8192)
    in_sample = np.random.default_rng(0).poisson(100 * 8192 / 1_000_000, 1_000_000)
    assert (in_sample >= plan.rank).mean() < 1e-3 < (in_sample >= plan.rank - 1).mean()
    assert Plan.of(5000, 6000, 6000).rank > 5000 + 3 * 5000**0.5
    assert Plan.of(2000, 2000, 2000).words == 63  # every outfit's bit has a place


BENCH_ALONE = """
import runpy, sys
for name in ("numba", "faiss", "sqlalchemy", "pydantic", "yaml", "pyarrow", "psutil"):
    sys.modules[name] = None
runpy.run_module("recjob.bench.gpu", run_name="__main__")
"""


def test_the_bench_needs_torch_and_triton_alone_and_a_gpu() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", BENCH_ALONE]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("no CUDA device here")
    assert result.stderr.count("\n") == 1


@pytest.mark.gpu
def test_a_large_case_on_a_gpu() -> None:
    """300,000 outfits, 3,000 users, with exclusions, against float64 products."""
    users, outfits = vectors(2, 3000, 128), vectors(3, 300_000, 128)
    outfits[150_000:200_000] = outfits[:50_000]
    rng = np.random.default_rng(4)
    indptr, seen = np.arange(3001) * 50, rng.integers(0, 300_000, 150_000)
    allowed = rng.random(300_000) < 0.9
    indices, scores = triton_top_k.triton_top_k(users, outfits, 100, (indptr, seen), allowed)
    cuda = torch.device("cuda")
    products = torch.tensor(users, device=cuda).double() @ torch.tensor(outfits).double().to(cuda).T
    products = products.float()
    products[:, torch.tensor(~allowed, device=cuda)] = -torch.inf
    products[torch.arange(3000, device=cuda).repeat_interleave(50), torch.tensor(seen)] = -torch.inf
    expected = products.topk(100, dim=1).values.cpu().numpy()
    # Another order of summation may round to the neighbouring float32.
    np.testing.assert_allclose(scores, expected, rtol=3e-7)
    found = products.gather(1, torch.tensor(indices, device=cuda)).cpu().numpy()
    np.testing.assert_allclose(found, scores, rtol=3e-7)
    tied = scores[:, :-1] == scores[:, 1:]
    assert (indices[:, :-1] < indices[:, 1:])[tied].all()
