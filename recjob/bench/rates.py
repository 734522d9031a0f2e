"""`bench rates`: what this machine does per second, as a file for `plan --rates`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from recjob.bench.machine import this_machine
from recjob.catalog.decode import decode
from recjob.inference.embedding import embed_items, embed_outfits
from recjob.inference.torch_engine import TorchEngine
from recjob.jobs.rates import Rate
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender
from recjob.ranking.top_k import Engine, cpu_has_bf16, top_k
from recjob.settings import Settings
from recjob.training.compute import choose_compute

PHOTO_SIDE: Final = 1000
"""Pixels of the drawn photographs: what shops commonly hold."""
PHOTO_GRAIN: Final = 16
"""Side of the random squares that are enlarged to a photograph: about 60 kB as a JPEG."""
JPEG_QUALITY: Final = 75
ITEMS_PER_OUTFIT: Final = 4


class RateWork(BaseModel):
    """How much is measured; the defaults take about half a minute on two cores."""

    model_config = ConfigDict(frozen=True)

    photos: int = Field(300, ge=1)
    items: int = Field(1024, ge=1)
    outfits: int = Field(20_000, ge=1)
    scored_users: int = Field(8192, ge=1)
    scored_outfits: int = Field(200_000, ge=1)
    places: int = Field(100, ge=1)


class MeasuredRates(BaseModel):
    """Rates of this machine under the names of `plan`."""

    rates: dict[str, Rate]

    def toml(self) -> str:
        """The file that `plan --rates` reads."""
        # A string of JSON is one of TOML, too.
        return "\n".join(
            f"[{name}]\nvalue = {rate.value:.4g}\nbasis = {json.dumps(rate.basis)}\n"
            f"source = {json.dumps(rate.source)}\n"
            for name, rate in self.rates.items()
        )


def bench_rates(settings: Settings, work: RateWork) -> MeasuredRates:
    """Measure decoding, embedding and scoring, on drawn data and an untrained student.

    Rates of cores are those of all cores at work, divided by their number. With a GPU the
    embedding and the scoring are measured on it and named after it.
    """
    machine = this_machine()
    threads = torch.get_num_threads()
    compute = choose_compute(settings.compute)
    on_gpu = compute.device.type == "cuda"
    unit, count = ("gpu", 1) if on_gpu else ("core", threads)
    place = f"{machine.gpu}" if on_gpu else f"{threads} threads of {machine.processor}"
    random = np.random.default_rng(settings.seed)
    rates: dict[str, Rate] = {}

    def keep(name: str, value: float, what: str, where: str) -> None:
        rates[name] = Rate(value=value, source=f"bench rates: {what}; {where}")

    photo = _photo(random)
    size = settings.images.size
    keep(
        "decoded_pictures_per_core",
        work.photos / _seconds(lambda: _decode(photo, size, work.photos, settings)),
        f"JPEG of {PHOTO_SIDE} pixels, {len(photo) // 1000} kB, to {size}",
        f"one thread of {machine.processor}",
    )
    chosen = settings.student
    student = OutfitRecommender(chosen.size, n_users=1, backbone=chosen.backbone)
    engine = TorchEngine(student, compute.device, compute.bf16)
    batch = settings.embed.batch_size
    pixels = random.integers(0, 256, (work.items, size, size, 3), dtype=np.uint8)
    rows = np.arange(work.items)
    keep(
        f"item_pictures_per_{unit}",
        work.items / _seconds(lambda: embed_items(engine, pixels, rows, batch)) / count,
        f"student {chosen.backbone} {chosen.size} at {size}, {engine.name}",
        place,
    )
    features = _unit(random, work.items)
    worn = random.integers(0, work.items, (work.outfits, ITEMS_PER_OUTFIT), dtype=np.int32)
    keep(
        f"outfits_per_{unit}",
        work.outfits / _seconds(lambda: embed_outfits(engine, features, worn, batch)) / count,
        f"{ITEMS_PER_OUTFIT} items each, {engine.name}",
        place,
    )
    users, outfits = _unit(random, work.scored_users), _unit(random, work.scored_outfits)
    pairs = float(work.scored_users) * work.scored_outfits
    kind: Engine = "triton" if on_gpu else "bf16" if cpu_has_bf16() else "fp32"
    what = f"{work.scored_users} x {work.scored_outfits}, k = {work.places}"
    keep(
        f"pairs_per_{unit}",
        pairs / _seconds(lambda: top_k(users, outfits, work.places, engine=kind)) / count,
        f"exact top-K {kind}, {what}",
        place,
    )
    index = faiss.IndexFlatIP(FEATURE_DIM)
    index.add(outfits)
    keep(
        "faiss_pairs_per_core",
        pairs / _seconds(lambda: index.search(users, work.places)) / threads,
        f"IndexFlatIP, {what}",
        f"{threads} threads of {machine.processor}",
    )
    return MeasuredRates(rates=rates)


def write_rates(measured: MeasuredRates, file: Path) -> None:
    """Write the file for `plan --rates`."""
    file.write_text(measured.toml(), encoding="utf-8")


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of the work, after it ran once for what is compiled and allocated then."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _decode(photo: bytes, size: int, times: int, settings: Settings) -> None:
    for _ in range(times):
        decode(photo, size, settings.images.max_pixels)


def _photo(random: np.random.Generator) -> bytes:
    grain = random.integers(0, 256, (PHOTO_GRAIN, PHOTO_GRAIN, 3), dtype=np.uint8)
    large = Image.fromarray(grain).resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    large.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _unit(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((n, FEATURE_DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
