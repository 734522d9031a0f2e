"""Which data a model was trained on: the same digest on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recjob.catalog.catalog import Catalog


def data_fingerprint(catalog: Catalog) -> str:
    """sha256 (hex) of what a model learns from: items, pictures, outfits, users, positives, and
    their parts where the data name some.

    Availability is left out: it changes every day and teaches nothing.
    """
    digest = hashlib.sha256()
    texts: tuple[Sequence[str], ...] = (
        catalog.categories,
        catalog.item_ids,
        catalog.item_image,
        catalog.outfit_ids,
        catalog.user_ids,
    )
    for values in texts:
        column = pa.array(values, pa.large_string())
        _, offsets, data = column.buffers()
        digest.update(len(column).to_bytes(8, "little"))
        digest.update(np.frombuffer(offsets, "<i8")[: len(column) + 1].tobytes())
        digest.update(data or b"")
    arrays: list[NDArray[Any]] = [
        catalog.item_category,
        catalog.outfit_items,
        catalog.positives,
    ]
    if catalog.positive_part is not None:
        arrays.append(catalog.positive_part)
    for array in arrays:
        digest.update(np.array(array.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(array, "<i4").tobytes())
    return digest.hexdigest()
