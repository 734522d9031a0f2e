"""Exact K best inner products for every user: one contract, several engines.

- `fp32`: float32 products; selected by the compiled pass where that pays, else in plain torch.
- `bf16`: bf16 products in hardware (AMX, AVX512-BF16), the compiled pass.
- `triton`: one fused kernel on a GPU (or in Triton's interpreter).

All are exact: an engine's own scores only decide what is rescored, and hard bounds on their
error decide what need not be.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recjob.ranking.blocks import Exclusions
from recjob.ranking.exact import MAX_OUTFITS, Float32Array, Int64Array
from recjob.ranking.gpu_trial import gpu_engine_works
from recjob.ranking.torch_top_k import torch_top_k

Engine = Literal["auto", "fp32", "bf16", "triton"]
BoolArray = NDArray[np.bool_]

PAIRS_WORTH_COMPILING: Final = 2**29
"""Pairs from which on the compiled pass repays its compilation (about 5 s, once per process; it
saves at least that per billion pairs)."""
PAIRS_WORTH_CALLING: Final = 2**16
"""The same where it is compiled already: threads and buffers have a price, too."""
_KERNELS: Final = "recjob.ranking.kernels"
_CHECK_ROWS: Final = 2**12


def top_k(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    *,
    exclude: tuple[NDArray[Any], NDArray[Any]] | None = None,
    allowed: BoolArray | None = None,
    engine: Engine = "auto",
) -> tuple[Int64Array, Float32Array]:
    """Exactly the `k` best outfits of each user by inner product, ties by the lower index.

    The score of a pair is its product accumulated in float64 (in the order of `exact.tree_sum`)
    and rounded to float32, whatever the engine, batch or block; vectors may have any finite norm.
    Beyond inputs and outputs it needs at most 256 MiB; the compiler, where it pays to load it,
    stays in memory with about 200 MiB more. On the CPU it uses as many threads as torch is set
    to.

    Args:
        users: `(U, d)` float32, contiguous (another type or layout is converted first, in a copy).
        outfits: `(N, d)` float32, likewise.
        k: length of a list; may exceed N.
        exclude: CSR `(indptr (U + 1,), indices)` of outfits that a user must not get.
        allowed: `(N,)` bool, outfits that anybody may get; None: all.
        engine: how to compute; auto takes the fastest that is there and pays for this size.

    Returns:
        Indices `(U, k)` int64 and scores `(U, k)` float32, best first; empty places are -1
        and -inf.

    Raises:
        ValueError: NaN or infinite input, shapes that do not fit, indices outside of N.
    """
    users = np.ascontiguousarray(users, np.float32)
    outfits = np.ascontiguousarray(outfits, np.float32)
    _check(users, outfits, k, exclude, allowed)
    if len(users) == 0 or len(outfits) == 0:
        return np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, "f")
    pairs = len(users) * len(outfits)
    chosen = fastest_engine(pairs) if engine == "auto" else engine
    if chosen == "triton":
        from recjob.ranking.triton_top_k import triton_top_k

        return triton_top_k(users, outfits, k, exclude, allowed)
    exclusions = None if exclude is None else Exclusions(*exclude)
    if chosen == "bf16" or _compiled_pays(pairs):
        from recjob.ranking.compiled_top_k import compiled_top_k

        return compiled_top_k(users, outfits, k, exclusions, allowed, chosen)
    return torch_top_k(users, outfits, k, exclusions, allowed)


def cpu_has_bf16() -> bool:
    """True where the CPU multiplies bf16 in hardware (AMX or AVX512-BF16)."""
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16"))


def fastest_engine(pairs: int) -> Literal["fp32", "bf16", "triton"]:
    """What auto takes for so many pairs of user and outfit."""
    if torch.cuda.is_available() and find_spec("triton") is not None and gpu_engine_works():
        return "triton"
    return "bf16" if cpu_has_bf16() and _compiled_pays(pairs) else "fp32"


def _compiled_pays(pairs: int) -> bool:
    if find_spec("numba") is None:
        return False
    return pairs >= (PAIRS_WORTH_CALLING if _KERNELS in sys.modules else PAIRS_WORTH_COMPILING)


def _check(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    exclude: tuple[NDArray[Any], NDArray[Any]] | None,
    allowed: BoolArray | None,
) -> None:
    if users.ndim != 2 or outfits.ndim != 2 or users.shape[1] != outfits.shape[1]:
        raise ValueError(f"users {users.shape} and outfits {outfits.shape} do not fit")
    if users.shape[1] == 0:
        raise ValueError("vectors of width 0 have no score")
    if len(outfits) > MAX_OUTFITS:
        raise ValueError(f"{len(outfits)} outfits are more than {MAX_OUTFITS}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    for name, vectors in (("users", users), ("outfits", outfits)):
        for start in range(0, len(vectors), _CHECK_ROWS):
            part = vectors[start : start + _CHECK_ROWS]
            # NaN and infinity reach the extremes, which need no array of their own.
            if not (np.isfinite(part.min()) and np.isfinite(part.max())):
                row = start + int(np.isfinite(part).all(axis=1).argmin())
                raise ValueError(f"{name}: row {row} has NaN or infinity")
    if allowed is not None and (allowed.shape != (len(outfits),) or allowed.dtype != np.bool_):
        raise ValueError(f"allowed must be bool ({len(outfits)},), not {allowed.shape}")
    if exclude is None:
        return
    indptr, indices = exclude
    if indptr.shape != (len(users) + 1,) or indptr[0] != 0 or indptr[-1] != len(indices):
        raise ValueError(f"exclude: indptr {indptr.shape} does not fit {len(users)} users")
    for start in range(0, len(users), _CHECK_ROWS):
        if (np.diff(indptr[start : start + _CHECK_ROWS + 1]) < 0).any():
            raise ValueError("exclude: indptr decreases")
    if len(indices) and (indices.min() < 0 or indices.max() >= len(outfits)):
        raise ValueError(f"exclude: an index lies outside of the {len(outfits)} outfits")
