"""What `bench topk` measures: our engines, the peers, and the matrix product alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recjob.ranking.scan import ieee_products
from recjob.ranking.top_k import Engine, cpu_has_bf16, top_k

Float32Array = NDArray[np.float32]
Run = Callable[[], Float32Array | None]
"""One measured run: the scores `(U, k)`, best first, or None where only products are made."""
Precision = Literal["bf16", "fp32"]

FAISS: Final = "FAISS IndexFlatIP"
PRODUCT: Final = "product alone"
PEERS: Final = ("faiss", "implicit", "threadpoolctl")
SCORE_BYTES: Final = 2**28
"""Scores that torch and implicit may hold at once."""
PRODUCT_USERS: Final = 2048
PRODUCT_OUTFITS: Final = 512
"""A tile of the product alone: what was fastest of many shapes here."""
GPU_PRODUCT: Final = 2**15
"""Side of the largest tile of the product on a GPU."""


@contextmanager
def threads_everywhere(threads: int) -> Iterator[None]:
    """The same number of threads for torch, FAISS, and the BLAS of NumPy and implicit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    if installed("faiss"):
        import_module("faiss").omp_set_num_threads(threads)
    try:
        if installed("threadpoolctl"):
            with import_module("threadpoolctl").threadpool_limits(threads):
                yield
        else:
            yield
    finally:
        torch.set_num_threads(before)


def installed(package: str) -> bool:
    """Whether the package can be imported; none of the peers is a must."""
    return find_spec(package) is not None


def versions() -> dict[str, str]:
    """Of the peers and of what our engines are compiled with; absent ones are left out."""
    found = {}
    for package in ("faiss-gpu", "faiss-cpu", "implicit", "numba", "triton", "threadpoolctl"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def rivals(
    users: Float32Array, outfits: Float32Array, k: int, threads: int
) -> Iterator[tuple[str, Run]]:
    """Name and run of each that works here; ours first. Indexes are built before the clock."""
    k = min(k, len(outfits))
    for engine in our_engines():
        yield f"ours {engine}", _ours(users, outfits, k, engine)
    if installed("faiss"):
        faiss = import_module("faiss")
        index = faiss.IndexFlatIP(users.shape[1])
        index.add(outfits)
        yield FAISS, lambda: index.search(users, k)[0]
    yield "torch matmul + topk", lambda: _torch(users, outfits, k, torch.device("cpu"))
    if installed("implicit"):
        yield "implicit", lambda: _implicit(users, outfits, k, threads)
    for precision in _precisions():
        yield f"{PRODUCT} {precision}", _product(users, outfits, precision)
    if torch.cuda.is_available():
        yield from _on_gpu(users, outfits, k)


def our_engines() -> tuple[Engine, ...]:
    """Those that run here, the fastest first."""
    fast: tuple[Engine, ...] = ("triton",) if torch.cuda.is_available() else ()
    return (*fast, *_precisions())


def _precisions() -> tuple[Precision, ...]:
    return ("bf16", "fp32") if cpu_has_bf16() else ("fp32",)


def _ours(users: Float32Array, outfits: Float32Array, k: int, engine: Engine) -> Run:
    return lambda: top_k(users, outfits, k, engine=engine)[1]


def _torch(users: Float32Array, outfits: Float32Array, k: int, device: torch.device) -> Any:
    """Scores of as many users at once as memory allows, and torch's own selection."""
    columns = torch.from_numpy(outfits).to(device).T
    step = max(1, SCORE_BYTES // (4 * len(outfits)))
    scores = np.empty((len(users), k), np.float32)
    tile = torch.empty(min(step, len(users)), len(outfits), device=device)
    with ieee_products():
        for start in range(0, len(users), step):
            rows = torch.from_numpy(users[start : start + step]).to(device)
            out = tile[: len(rows)]
            torch.mm(rows, columns, out=out)
            scores[start : start + step] = out.topk(k, dim=1).values.cpu().numpy()
    return scores


def _implicit(users: Float32Array, outfits: Float32Array, k: int, threads: int) -> Any:
    topk = import_module("implicit.cpu.topk").topk
    step = max(1, SCORE_BYTES // (4 * len(outfits)))
    parts = [
        topk(outfits, users[start : start + step], k, num_threads=threads)[1]
        for start in range(0, len(users), step)
    ]
    return np.concatenate(parts)


def _product(users: Float32Array, outfits: Float32Array, precision: Precision) -> Run:
    """Every product once, into one tile that is used again: what no exact scan can beat."""
    format_ = torch.bfloat16 if precision == "bf16" else torch.float32
    rows, columns = torch.from_numpy(users).to(format_), torch.from_numpy(outfits).to(format_)
    tile = torch.empty(PRODUCT_USERS * PRODUCT_OUTFITS, dtype=format_)

    def run() -> None:
        with ieee_products():
            _all_products(rows, columns, tile, PRODUCT_USERS, PRODUCT_OUTFITS)

    return run


def _all_products(rows: Tensor, columns: Tensor, tile: Tensor, height: int, width: int) -> None:
    for top in range(0, len(rows), height):
        part = rows[top : top + height]
        for left in range(0, len(columns), width):
            block = columns[left : left + width]
            out = tile[: len(part) * len(block)].view(len(part), len(block))
            torch.mm(part, block.T, out=out)


def _on_gpu(users: Float32Array, outfits: Float32Array, k: int) -> Iterator[tuple[str, Run]]:
    cuda = torch.device("cuda")
    yield "torch on the GPU", lambda: _torch(users, outfits, k, cuda)
    rows, columns = (torch.from_numpy(x).to(cuda, torch.bfloat16) for x in (users, outfits))
    side = min(GPU_PRODUCT, max(len(users), len(outfits)))
    tile = torch.empty(side * side, dtype=torch.bfloat16, device=cuda)

    def product() -> None:
        _all_products(rows, columns, tile, side, side)
        torch.cuda.synchronize()

    yield f"{PRODUCT} bf16 on the GPU", product
    faiss: Any = import_module("faiss") if installed("faiss") else None
    if hasattr(faiss, "StandardGpuResources"):
        resources = faiss.StandardGpuResources()
        inner = faiss.METRIC_INNER_PRODUCT
        yield (
            "FAISS knn_gpu",
            lambda: faiss.knn_gpu(resources, users, outfits, k, metric=inner)[0],
        )
