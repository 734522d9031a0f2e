"""Whole catalogs through an engine, in batches: items, then outfits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING
from recjob.errors import NotFiniteError
from recjob.inference.engine import Engine, Float32Array, UInt8Array
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender

Progress = Callable[[int], object]
"""Called after each batch with the number of rows that it finished."""
Timer = Callable[[float], object]
"""Called after each batch with the seconds that it took, its input and its check included."""


def embed_items(
    engine: Engine,
    pixels: UInt8Array,
    rows: NDArray[Any],
    batch_size: int,
    on_progress: Progress | None = None,
    on_batch: Timer | None = None,
) -> Float32Array:
    """Item features `(m, 128)` of the pictures `pixels[rows]`.

    `pixels (n, H, W, 3)` may be a memory map: only a batch of it is read at a time. Raises
    NotFiniteError where a feature is not finite.
    """
    features = np.empty((len(rows), FEATURE_DIM), np.float32)
    for start in range(0, len(rows), batch_size):
        began = time.perf_counter()
        part = rows[start : start + batch_size]
        encoded = engine.encode_items(pixels[part])
        _check_finite(encoded, engine, "picture", part)
        features[start : start + len(part)] = encoded
        if on_batch is not None:
            on_batch(time.perf_counter() - began)
        if on_progress is not None:
            on_progress(len(part))
    return features


def embed_outfits(
    engine: Engine,
    features: Float32Array,
    outfit_items: NDArray[Any],
    batch_size: int,
    on_progress: Progress | None = None,
    on_batch: Timer | None = None,
) -> Float32Array:
    """Unit vectors `(n, 128)` of outfits, from item features `(n_items, 128)`.

    `outfit_items (n, M)` holds rows of `features`, PADDING at any place. An outfit without items
    is the zero vector. Raises NotFiniteError where a vector is not finite.
    """
    vectors = np.zeros((len(outfit_items), FEATURE_DIM), np.float32)
    for start in range(0, len(outfit_items), batch_size):
        began = time.perf_counter()
        part = outfit_items[start : start + batch_size]
        real = part != PADDING
        some = np.flatnonzero(real.any(axis=1))
        if len(some):
            used = np.flatnonzero(real.any(axis=0))  # columns of padding cost time and add nothing
            items, mask = part[np.ix_(some, used)], real[np.ix_(some, used)]
            encoded = engine.encode_outfits(features[np.where(mask, items, 0)], mask)
            _check_finite(encoded, engine, "outfit", start + some)
            vectors[start + some] = unit(encoded)
        if on_batch is not None:
            on_batch(time.perf_counter() - began)
        if on_progress is not None:
            on_progress(len(part))
    return vectors


def unit(vectors: Float32Array) -> Float32Array:
    """`vectors (..., d)` scaled to length 1, of whatever length they are; zero stays zero."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0)
    # Divided by the largest value first, squares neither overflow nor vanish.
    scaled = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    result: Float32Array = np.divide(scaled, length, out=scaled, where=length > 0)
    return result


def user_unit_vectors(model: OutfitRecommender) -> Float32Array:
    """Unit vectors `(U, 128)` of the users that a model knows.

    Raises NotFiniteError where one is not finite.
    """
    vectors: Float32Array = model.users.weight.detach().float().cpu().numpy()
    if diverged := int((~np.isfinite(vectors).all(axis=1)).sum()):
        raise NotFiniteError(
            f"{diverged} of {len(vectors)} users have a vector that is not finite"
            " (the model may have diverged in training)"
        )
    return unit(vectors)


def _check_finite(vectors: Float32Array, engine: Engine, what: str, rows: NDArray[Any]) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise NotFiniteError(
            f"{engine.name}: {what} {int(rows[finite.argmin()])} has a vector that is not finite"
            " (the model may have diverged in training, or overflow in this precision)"
        )
