"""Is the GPU engine of the exact top-K right, and how fast? `python -m recjob.bench.gpu`.

For a machine with a GPU that holds torch, Triton and NumPy and little else. One JSON line for each
check and measurement. The checks compare every index and score, to the last bit, with plain
float64 sums in torch; the measurements time ours, torch's matmul and topk, the product alone, and
FAISS where it is installed, on the same vectors in the same run. Exit code 1: a check failed;
2: no GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import triton  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor

from recjob.errors import RecjobError
from recjob.ranking.exact import decode, tree_sum
from recjob.ranking.triton_search import TILE, Search, Tile
from recjob.ranking.triton_top_k import compute_device, triton_top_k, users_per_block
from recjob.ranking.triton_vectors import DeviceOutfits, DeviceUsers, encode, row_blocks

Float32Array = NDArray[np.float32]
Csr = tuple[NDArray[np.int64], NDArray[np.int64]]

REFERENCE_BYTES: Final = 2**30
"""Float64 products of the reference in memory at once."""
SCORE_BYTES: Final = 2**32
"""A tile of torch's scores; larger ones were no faster."""
COLUMNS: Final = 2**16
"""Outfits of a tile where torch selects tile by tile."""
SEEN: Final = 50
"""Outfits that a user has seen, in the data sets with exclusions."""
LEAST_RUNS: Final = 3
MOST_RUNS: Final = 20
TILES: Final = (
    TILE,
    Tile(128, 128, 4, 2),
    Tile(128, 128, 8, 3),
    Tile(128, 256, 8, 2),
    Tile(256, 128, 8, 2),
    Tile(64, 128, 4, 2),
    Tile(128, 64, 4, 3),
)
"""Shapes of the scan to choose from."""


@dataclass(frozen=True)
class Size:
    """Sizes of a run."""

    checked_users: int
    checked_outfits: int
    checked_k: tuple[int, ...]
    users: int
    outfits: int
    k: int
    width: int


FULL: Final = Size(256, 200_000, (1, 100, 1000), 2**14, 1_000_000, 100, 128)
QUICK: Final = Size(64, 20_000, (100,), 2**12, 200_000, 100, 128)
INTERPRETED: Final = Size(4, 300, (5,), 4, 300, 5, 32)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, then the measurements; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m recjob.bench.gpu")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    parser.add_argument("--tiles", action="store_true", help="measure other shapes of tiles, too")
    parser.add_argument("--seconds", type=float, default=120, help="limit of each section")
    options = parser.parse_args(arguments)
    try:
        device = compute_device()
    except RecjobError:
        print(
            "no CUDA device here; TRITON_INTERPRET=1 with --quick checks the results on the CPU",
            file=sys.stderr,
        )
        return 2
    if device.type == "cpu":
        right = check(INTERPRETED, device, options.seconds)
        return 0 if right else 1
    say(
        "machine",
        gpu=torch.cuda.get_device_name(device),
        torch=torch.__version__,
        triton=triton.__version__,
    )
    size = QUICK if options.quick else FULL
    right = check(size, device, options.seconds)
    measure(size, device, options.seconds)
    if options.tiles:
        measure_tiles(size, device, options.seconds)
    return 0 if right else 1


def say(what: str, **values: object) -> None:
    """One line of JSON."""
    print(json.dumps({"what": what} | values), flush=True)


def vectors(rng: np.random.Generator, rows: int, width: int) -> Float32Array:
    """(rows, width) random directions of norm 1."""
    drawn = rng.standard_normal((rows, width), np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def data_sets(size: Size) -> Iterator[tuple[str, Float32Array, Float32Array]]:
    """Name, users and outfits; each is hard in its own way."""
    rng = np.random.default_rng(0)
    count, width = size.checked_outfits, size.width
    users = vectors(rng, size.checked_users, width)
    users[0] = 0
    random = vectors(rng, count, width)
    yield "random", users, random
    centres = vectors(rng, 100, width)[rng.integers(0, 100, count)]
    yield "clustered", users, (centres + 0.05 * random).astype(np.float32)
    base = random[rng.integers(0, max(1, count // 50), count)]
    yield "duplicates", users, base
    yield "near-duplicates", users, (base + 1e-5 * random).astype(np.float32)
    norms = (10.0 ** rng.uniform(-6, 6, (count, 1))).astype(np.float32)
    yield "norms", users * np.float32(1e20), random * norms
    yield "ascending", users, random[np.argsort(random @ users[1])]


def reference(
    users: Float32Array,
    outfits: Float32Array,
    k: int,
    exclude: Csr | None,
    allowed: NDArray[np.bool_] | None,
    device: torch.device,
) -> tuple[NDArray[np.int64], Float32Array]:
    """The answer by summing every pair's products in float64, in the order of `tree_sum`."""
    theirs = torch.tensor(outfits, device=device).double()
    numbers = torch.arange(len(outfits), device=device)
    keys = np.full((len(users), k), np.iinfo(np.int64).min, np.int64)
    step = max(1, REFERENCE_BYTES // (8 * outfits.shape[1]))
    for row, user in enumerate(torch.tensor(users, device=device).double()):
        parts: list[Tensor] = []
        for start, stop in row_blocks(len(outfits), step):
            sums: Any = tree_sum(theirs[start:stop] * user)
            parts.append(sums.float())
        found = encode(torch.cat(parts), numbers)
        if allowed is not None:
            found[torch.tensor(~allowed, device=device)] = keys[0, 0]
        if exclude is not None:
            seen = exclude[1][exclude[0][row] : exclude[0][row + 1]]
            found[torch.tensor(seen, device=device)] = np.iinfo(np.int64).min
        chosen = found.topk(min(k, len(found))).values.cpu().numpy()
        keys[row, : len(chosen)] = chosen
    return decode(keys)


def seen_by(rng: np.random.Generator, users: int, outfits: int) -> Csr:
    """CSR of `SEEN` outfits of each user."""
    return np.arange(users + 1) * SEEN, rng.integers(0, outfits, users * SEEN)


def check(size: Size, device: torch.device, seconds: float) -> bool:
    """Whether every list equals the reference to the last bit."""
    end, right = time.monotonic() + seconds, True
    rng = np.random.default_rng(1)
    masks = (
        seen_by(rng, size.checked_users, size.checked_outfits),
        rng.random(size.checked_outfits) < 0.7,
    )
    for name, users, outfits in data_sets(size):
        for k in size.checked_k:
            for exclude, allowed in ((None, None), masks):
                if time.monotonic() > end:
                    say("left out", data=name, k=k, reason=f"{seconds:g} s are over")
                    continue
                found = triton_top_k(users, outfits, k, exclude, allowed)
                expected = reference(users, outfits, k, exclude, allowed, device)
                wrong = int(((found[0] != expected[0]) | (found[1] != expected[1])).sum())
                say("check", data=name, k=k, masked=exclude is not None, wrong_places=wrong)
                right &= wrong == 0
    return right


def timed(run: Callable[[], object], end: float) -> float:
    """Median seconds of a run, after one that compiles; fewer runs if `end` comes."""
    run()
    torch.cuda.synchronize()
    taken: list[float] = []
    while len(taken) < MOST_RUNS and (len(taken) < LEAST_RUNS or time.monotonic() < end):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(size: Size, device: torch.device, seconds: float) -> None:
    """Time ours and the others; all vectors are on the GPU unless the name says otherwise."""
    rng = np.random.default_rng(2)
    users, outfits = vectors(rng, size.users, size.width), vectors(rng, size.outfits, size.width)
    exclude = seen_by(rng, size.users, size.outfits)
    on_device = torch.tensor(users, device=device)
    theirs = torch.tensor(outfits, device=device)
    search = Search(DeviceOutfits.of(outfits, None, TILE.columns, device), size.k)
    rows = torch.arange(size.users, device=device).repeat_interleave(SEEN)
    seen = rows, torch.tensor(exclude[1], device=device)
    halves = {kind: theirs.to(kind) for kind in (torch.float16, torch.bfloat16)}
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(search, on_device, None),
        "ours, excluding": lambda: ours(search, on_device, seen),
        "ours, from and to the host": lambda: triton_top_k(users, outfits, size.k),
        "product alone, fp16": lambda: product(on_device.half(), halves[torch.float16]),
        "product alone, fp32": lambda: product(on_device, theirs),
    }
    for kind, vectors_ in ((torch.bfloat16, halves[torch.bfloat16]), (torch.float32, theirs)):
        name = str(kind).removeprefix("torch.")
        mine = on_device.to(kind)
        for columns in (size.outfits, COLUMNS):
            runs[f"torch matmul and topk, {name}, {columns} columns"] = (
                lambda mine=mine, vectors_=vectors_, columns=columns: torch_top_k(  # type: ignore[misc]
                    mine, vectors_, size.k, columns
                )
            )
    knn = faiss_knn(on_device, theirs, size.k)
    if knn is not None:
        runs["FAISS knn_gpu"] = knn
    share, pairs, ours_seconds = seconds / len(runs), size.users * size.outfits, None
    for name, run in runs.items():
        taken = timed(run, time.monotonic() + share)
        ours_seconds = ours_seconds or taken
        say(
            "speed",
            name=name,
            milliseconds=round(1e3 * taken, 3),
            billion_pairs_per_second=round(pairs / taken / 1e9, 1),
            times_ours=round(taken / ours_seconds, 2),
        )
    say("memory", peak_bytes=torch.cuda.max_memory_allocated(device))
    parts(search, on_device)


def ours(search: Search, users: Tensor, seen: tuple[Tensor, Tensor] | None) -> None:
    """All blocks of users; `seen` is sorted by user."""
    step = users_per_block(search, seen is not None)
    for start, stop in row_blocks(len(users), step):
        mine = None
        if seen is not None:
            mine = seen[0][start * SEEN : stop * SEEN] - start, seen[1][start * SEEN : stop * SEEN]
        search.best(DeviceUsers.of(users[start:stop], search.outfits, mine))


def parts(search: Search, users: Tensor) -> None:
    """Milliseconds of the stages of one block of users, and how many users needed a second scan."""
    block = DeviceUsers.of(users[: users_per_block(search, False)], search.outfits)
    lines = search._first_lines(block)
    nothing = torch.full_like(lines, torch.inf)
    tiles = len(search.outfits.halves) // search.tile.columns
    end = time.monotonic()
    stages: dict[str, Callable[[], object]] = {
        "first lines": lambda: search._first_lines(block),
        "scan that finds nothing": lambda: search._scan(block, nothing, 0, tiles),
        "scan with exact scores": lambda: search._scan(block, lines, 0, tiles),
        "all": lambda: search.best(block),
    }
    for name, run in stages.items():
        taken = timed(run, end)
        say("stage", name=name, users=len(block), milliseconds=round(1e3 * taken, 3))


def product(users: Tensor, outfits: Tensor) -> None:
    """All scores, tile by tile into the same memory: the limit of whatever writes scores."""
    step = max(1, SCORE_BYTES // (users.element_size() * len(outfits)))
    tile = torch.empty((step, len(outfits)), dtype=users.dtype, device=users.device)
    for start, stop in row_blocks(len(users), step):
        torch.mm(users[start:stop], outfits.T, out=tile[: stop - start])


def torch_top_k(users: Tensor, outfits: Tensor, k: int, columns: int) -> None:
    """Matmul and topk of tiles of `columns` outfits, merged; neither exact nor masked."""
    step = max(1, SCORE_BYTES // (users.element_size() * columns))
    for start, stop in row_blocks(len(users), step):
        values: list[Tensor] = []
        places: list[Tensor] = []
        for first, last in row_blocks(len(outfits), columns):
            found = (users[start:stop] @ outfits[first:last].T).topk(min(k, last - first), dim=1)
            values.append(found.values)
            places.append(found.indices + first)
        chosen = torch.cat(values, dim=1).topk(k, dim=1)
        torch.cat(places, dim=1).gather(1, chosen.indices)


def faiss_knn(users: Tensor, outfits: Tensor, k: int) -> Callable[[], object] | None:
    """FAISS on the same tensors, or None where it is not installed for this GPU."""
    try:
        import faiss
        import faiss.contrib.torch_utils  # lets FAISS read torch's tensors
    except ImportError:
        return None
    if not hasattr(faiss, "knn_gpu") or not faiss.get_num_gpus():
        return None
    resources = faiss.StandardGpuResources()
    metric = faiss.METRIC_INNER_PRODUCT
    return lambda: faiss.knn_gpu(resources, users, outfits, k, metric=metric)


def measure_tiles(size: Size, device: torch.device, seconds: float) -> None:
    """Time the whole search with other shapes of tiles."""
    rng = np.random.default_rng(3)
    users = torch.tensor(vectors(rng, size.users, size.width), device=device)
    outfits = vectors(rng, size.outfits, size.width)
    for tile in TILES:
        search = Search(DeviceOutfits.of(outfits, None, tile.columns, device), size.k, tile)
        try:
            taken = timed(
                lambda search=search: ours(search, users, None),  # type: ignore[misc]
                time.monotonic() + seconds / len(TILES),
            )
        except triton.runtime.errors.OutOfResources as error:
            say("tile", tile=str(tile), error=str(error))
            continue
        say("tile", tile=str(tile), milliseconds=round(1e3 * taken, 3))


if __name__ == "__main__":
    sys.exit(main())
