"""Part of `gate`: whether compiled forms of the candidate compute the same, and how fast."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from recjob.catalog.catalog import PADDING, Int64Array
from recjob.inference.embedding import embed_items, embed_outfits, unit
from recjob.inference.engine import Engine, Float32Array, UInt8Array
from recjob.inference.onnx_engine import OnnxEngine
from recjob.inference.tensorrt_engine import TensorRTEngine
from recjob.inference.torch_engine import TorchEngine
from recjob.jobs.compile import ITEM_ENCODER, SET_ENCODER
from recjob.jobs.compiled import compile_again, compiled_student, embedding_engine
from recjob.jobs.gate_checks import Beside
from recjob.jobs.gate_measures import NO_ACTIVE, Student
from recjob.jobs.pictures import open_pictures, with_pictures
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.model.recommender import FEATURE_DIM
from recjob.training.compute import choose_compute

PARITY_OUTFITS: Final = 64
"""Outfits, spread over the catalog, that go through the compiled forms: enough to meet a layer that
was exported wrong, and seconds on a CPU."""
NOT_COMPILED: Final = "it was not compiled"


def engine_difference(context: JobContext, shop: Shop, student: Student) -> float | str:
    """Largest distance of a unit vector of a compiled form from torch's in float32 on the CPU.

    On real pictures and outfits of the catalog. The forms are the two ONNX files, and the TensorRT
    engine where one runs on this machine. A text says why there is nothing to look at.
    """
    compiled = compiled_student(context, student.row)
    if compiled is None:
        return NOT_COMPILED
    outfits = np.flatnonzero(shop.catalog.outfit_usable)
    places = np.linspace(0, outfits.size - 1, min(PARITY_OUTFITS, outfits.size)).astype(int)
    worn = shop.catalog.outfit_items[outfits[places]][:, : compiled.settings.max_items]
    pixels, rows = _pictures(context, shop, student, np.unique(worn[worn != PADDING]))
    sha256 = {ITEM_ENCODER: compiled.item_onnx_sha256, SET_ENCODER: compiled.set_onnx_sha256}
    files = {
        name: context.artifacts.file(
            student.row.model_id, f"{name}.onnx", digest, compile_again(student.row.model_id)
        )
        for name, digest in sha256.items()
    }
    forms: list[Engine] = [OnnxEngine(files[ITEM_ENCODER], files[SET_ENCODER])]
    compute = choose_compute(context.settings.compute)
    here = embedding_engine(context, student.row, student.stored, compute).engine
    if isinstance(here, TensorRTEngine):
        forms.append(here)
    exact = TorchEngine(copy.deepcopy(student.stored.model).float(), "cpu", bf16=False)
    batch_size = context.settings.embed.batch_size
    expected = embed_items(exact, pixels, rows, batch_size)
    features = np.zeros((shop.catalog.n_items, FEATURE_DIM), np.float32)
    features[np.unique(worn[worn != PADDING])] = expected
    vectors = embed_outfits(exact, features, worn, batch_size)
    return max(
        distance
        for form in forms
        for distance in (
            _distance(embed_items(form, pixels, rows, batch_size), expected),
            _distance(embed_outfits(form, features, worn, batch_size), vectors),
        )
    )


def batch_seconds(
    context: JobContext, shop: Shop, candidate: Student, active: Student | None
) -> Beside | str:
    """Seconds of a batch of pictures through the engine that embeds here: medians, in turn.

    Each student sees the pictures of its own size.
    """
    if active is None:
        return NO_ACTIVE
    usable = np.flatnonzero(shop.catalog.item_usable)[: context.settings.embed.batch_size]
    compute = choose_compute(context.settings.compute)
    works: list[Callable[[], object]] = []
    for student in (candidate, active):
        pixels, rows = _pictures(context, shop, student, usable)
        engine = embedding_engine(context, student.row, student.stored, compute).engine
        works.append(partial(engine.encode_items, np.ascontiguousarray(pixels[rows])))
    return Beside(*medians_in_turn(works, context.settings.gate.latency_batches))


def medians_in_turn(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each of the works, which take turns so that none has the quiet hour.

    A round before the others is not counted: first calls allocate and tune.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for own, work in zip(seconds, works, strict=True):
            start = time.perf_counter()
            work()
            if number:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def _pictures(
    context: JobContext, shop: Shop, student: Student, items: Int64Array
) -> tuple[UInt8Array, Int64Array]:
    """Packed pictures of the size that the student sees, and the rows of `items` (n,) in them."""
    pictured = with_pictures(
        shop.catalog, open_pictures(context.settings, student.stored.image_size)
    )
    return pictured.pictures.pixels, pictured.picture_rows[items]


def _distance(found: Float32Array, expected: Float32Array) -> float:
    return float(np.linalg.norm(unit(found) - unit(expected), axis=-1).max(initial=0))
