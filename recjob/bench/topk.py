"""Benchmark of the exact top-K: ours, FAISS, torch, implicit and the product alone, in one run.

The repeats of all take turns and the least time of each counts, so that what else the machine
does falls on all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file

from recjob.bench.machine import Machine, this_machine
from recjob.bench.topk_rivals import (
    FAISS,
    PEERS,
    PRODUCT,
    Float32Array,
    installed,
    rivals,
    threads_everywhere,
    versions,
)
from recjob.errors import DataError
from recjob.settings import Settings

TOLERANCE: Final = 1e-6
"""Scores of others, in float32, may differ from the exact ones by so much of the largest."""
DIRECTIONS: Final = 4000
"""Of the near-duplicates: each is repeated, with noise, until there are enough outfits."""
NOISE: Final = 1e-3
"""Length of the noise relative to the outfit: less than bf16 can tell apart."""
OUTFITS_KEY: Final = "outfits"
USERS_FILE: Final = "users.safetensors"
USERS_KEY: Final = "users.weight"
_WARM_UP_USERS: Final = 64


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class Measured(_Result):
    """One rival on one data set."""

    name: str
    seconds: float
    billion_pairs_per_second: float
    times_faiss: float | None
    """Pairs per second relative to FAISS IndexFlatIP; None where it is not installed."""
    times_product: float
    """Relative to the fastest product alone."""
    largest_difference: float | None
    """Of a score from ours at the same rank, relative to the largest; None: no scores."""


class DataSet(_Result):
    """All rivals on one data set."""

    name: str
    users: int
    outfits: int
    dim: int
    k: int
    equal: bool
    """Our engines agree to the last bit, the others but for scores closer than 1e-6."""
    measured: tuple[Measured, ...]


class TopKBenchmark(_Result):
    """What `bench topk` found."""

    machine: Machine
    threads: int
    repeats: int
    versions: dict[str, str]
    notes: tuple[str, ...]
    """What was left out, and why."""
    data_sets: tuple[DataSet, ...]


@dataclass(frozen=True)
class TopKWork:
    """What is measured."""

    users: int = 8192
    outfits: int = 200_000
    dim: int = 128
    k: int = 100
    threads: int = 2
    repeats: int = 3
    vectors: Path | None = None
    """A student's embeddings; None: the newest under the settings' home."""


def bench_topk(settings: Settings, work: TopKWork) -> TopKBenchmark:
    """Measure on random, trained and nearly duplicated vectors.

    Raises:
        DataError: the file of vectors that was named cannot be used.
    """
    notes = [f"{package} is not installed" for package in PEERS if not installed(package)]
    file = work.vectors or _newest_embeddings(settings)
    if file is None:
        notes.append(f"no trained vectors: no student was embedded under {settings.home}")
    with threads_everywhere(work.threads):
        measured = tuple(
            _measure(name, users, outfits, work)
            for name, users, outfits in _data_sets(work, file, settings.seed)
        )
    return TopKBenchmark(
        machine=this_machine(),
        threads=work.threads,
        repeats=work.repeats,
        versions=versions(),
        notes=tuple(notes),
        data_sets=measured,
    )


def print_topk(result: TopKBenchmark) -> None:
    """A table for each data set."""
    console = Console()
    machine = result.machine
    console.print(
        f"{machine.processor}, {result.threads} threads, {' '.join(machine.instructions)}"
        + (f"; {machine.gpu}" if machine.gpu else ""),
        highlight=False,
    )
    for found in result.data_sets:
        table = Table(
            title=f"{found.name}: {found.users} users x {found.outfits} outfits, "
            f"d = {found.dim}, k = {found.k}"
        )
        for heading in ("", "seconds", "G pairs/s", "x FAISS", "x product", "difference"):
            table.add_column(heading, justify="right" if heading else "left")
        for row in found.measured:
            table.add_row(
                row.name,
                f"{row.seconds:.3f}",
                f"{row.billion_pairs_per_second:.3f}",
                "" if row.times_faiss is None else f"{row.times_faiss:.2f}",
                f"{row.times_product:.2f}",
                "" if row.largest_difference is None else f"{row.largest_difference:.1e}",
            )
        console.print(table)
        console.print("results equal" if found.equal else "RESULTS DIFFER")
    for note in result.notes:
        console.print(note)


def _measure(name: str, users: Float32Array, outfits: Float32Array, work: TopKWork) -> DataSet:
    runs = dict(rivals(users, outfits, work.k, work.threads))
    for _, warm_up in rivals(users[:_WARM_UP_USERS], outfits, work.k, work.threads):
        warm_up()
    seconds = dict.fromkeys(runs, np.inf)
    scores: dict[str, Float32Array] = {}
    for _ in range(work.repeats):
        for rival, run in runs.items():
            start = time.perf_counter()
            result = run()
            seconds[rival] = min(seconds[rival], time.perf_counter() - start)
            if result is not None:
                scores[rival] = result
    ours = next(iter(scores.values()))
    largest = float(np.abs(ours).max()) or 1.0
    differences = {
        rival: float(np.abs(found - ours).max()) / largest for rival, found in scores.items()
    }
    fastest_product = min(s for rival, s in seconds.items() if rival.startswith(PRODUCT))
    pairs = len(users) * len(outfits)
    return DataSet(
        name=name,
        users=len(users),
        outfits=len(outfits),
        dim=users.shape[1],
        k=ours.shape[1],
        equal=all(
            difference <= (0.0 if rival.startswith("ours") else TOLERANCE)
            for rival, difference in differences.items()
        ),
        measured=tuple(
            Measured(
                name=rival,
                seconds=least,
                billion_pairs_per_second=pairs / least / 1e9,
                times_faiss=seconds[FAISS] / least if FAISS in seconds else None,
                times_product=fastest_product / least,
                largest_difference=differences.get(rival),
            )
            for rival, least in seconds.items()
        ),
    )


def _data_sets(
    work: TopKWork, file: Path | None, seed: int
) -> Iterator[tuple[str, Float32Array, Float32Array]]:
    """Name, users and outfits."""
    random = np.random.default_rng(seed)
    users = _unit(random.standard_normal((work.users, work.dim), dtype=np.float32))
    yield (
        "random",
        users,
        _unit(random.standard_normal((work.outfits, work.dim), dtype=np.float32)),
    )
    if file is not None:
        yield ("trained", *_trained(file))
    directions = _unit(
        random.standard_normal((min(DIRECTIONS, work.outfits), work.dim), dtype=np.float32)
    )
    noise = _unit(random.standard_normal((work.outfits, work.dim), dtype=np.float32))
    repeated = directions[random.integers(0, len(directions), work.outfits)]
    yield "near-duplicates", users, _unit(repeated + np.float32(NOISE) * noise)


def _newest_embeddings(settings: Settings) -> Path | None:
    files = (settings.home / "artifacts" / "models").glob("student-*/embeddings*.safetensors")
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def _trained(file: Path) -> tuple[Float32Array, Float32Array]:
    """A student's users and outfits as they are; users lie beside the embeddings."""
    wanted = ((file.with_name(USERS_FILE), USERS_KEY), (file, OUTFITS_KEY))
    found = []
    for path, key in wanted:
        try:
            vectors = load_file(path)[key]
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(
                f"{path}: no vectors {key!r} in it; give the embeddings of a trained student"
            ) from error
        found.append(torch.nn.functional.normalize(vectors.float(), dim=1).numpy())
    return found[0], found[1]


def _unit(vectors: Float32Array) -> Float32Array:
    """The vectors, each of length 1."""
    result: Float32Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result
