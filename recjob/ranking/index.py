"""Outfit vectors as a FAISS file for services that search on their own.

The nightly lists come from `top_k`; the index is a copy of the same vectors, and its recall
against `top_k` is measured when it is built. Two files: `NAME` (FAISS, flat inner product) and
`NAME.ids.json` (the outfit of each row and the sha256 of `NAME`, so that a half-written or mixed
pair is noticed).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from recjob.errors import RecjobError
from recjob.ranking.exact import pair_scores
from recjob.ranking.top_k import top_k

RECALL_QUERIES: Final = 256
"""Queries that recall is measured with: a tenth of a percent shows, in well under a second."""
_ADD_ROWS: Final = 2**16
_READ_BYTES: Final = 2**20


@dataclass(frozen=True)
class IndexFile:
    """A written index."""

    path: Path
    sha256: str
    """Of the FAISS file."""
    n_outfits: int
    recall: float
    """Share of the exact k best that the index, read back from its file, returns."""


@dataclass(frozen=True)
class OutfitIndex:
    """An index in memory: row i is outfit `outfit_ids[i]`."""

    index: Any
    outfit_ids: tuple[str, ...]

    def search(
        self, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows `(Q, k)` (-1: none) and inner products `(Q, k)` of the best for `(Q, d)`."""
        scores, rows = self.index.search(np.ascontiguousarray(vectors, np.float32), k)
        return rows, scores


def build_index(
    path: Path,
    outfit_vectors: NDArray[np.float32],
    outfit_ids: Sequence[str],
    queries: NDArray[np.float32],
    k: int,
) -> IndexFile:
    """Write the index of `outfit_vectors (N, d)` and measure it with `queries (Q, d)`.

    Up to 256 queries, evenly spread, ask for their `k` best. An index without outfits or without
    queries has recall 1.
    """
    if len(outfit_vectors) != len(outfit_ids):
        raise ValueError(f"{len(outfit_vectors)} vectors for {len(outfit_ids)} outfits")
    index = faiss.IndexFlatIP(outfit_vectors.shape[1])
    for start in range(0, len(outfit_vectors), _ADD_ROWS):
        index.add(np.ascontiguousarray(outfit_vectors[start : start + _ADD_ROWS], np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".writing")
    faiss.write_index(index, str(temporary))
    sha256 = _sha256(temporary)
    ids_file = _ids_file(path)
    ids_temporary = ids_file.with_name(ids_file.name + ".writing")
    ids_temporary.write_text(
        json.dumps({"sha256": sha256, "outfit_ids": list(outfit_ids)}), encoding="utf-8"
    )
    temporary.replace(path)
    ids_temporary.replace(ids_file)
    recall = _recall(read_index(path), outfit_vectors, _spread(queries), k)
    return IndexFile(path, sha256, len(outfit_ids), recall)


def read_index(path: Path, outfit_ids: Sequence[str] | None = None) -> OutfitIndex:
    """The index at `path`; its rows must be `outfit_ids` where they are given.

    Raises RecjobError for a file that is missing, damaged or of other outfits.
    """
    try:
        listed = json.loads(_ids_file(path).read_text(encoding="utf-8"))
        found = _sha256(path)
    except (OSError, ValueError) as error:
        raise RecjobError(f"{path}: index cannot be read ({error}); run `embed` again") from None
    if found != listed["sha256"]:
        raise RecjobError(f"{path}: index does not match its list of ids; run `embed` again")
    index = faiss.read_index(os.fspath(path))
    ids = tuple(listed["outfit_ids"])
    if index.ntotal != len(ids):
        raise RecjobError(
            f"{path}: {index.ntotal} vectors for {len(ids)} outfits; run `embed` again"
        )
    if outfit_ids is not None and ids != tuple(outfit_ids):
        raise RecjobError(f"{path}: index holds other outfits than asked for; run `embed` again")
    return OutfitIndex(index, ids)


def _recall(
    index: OutfitIndex, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> float:
    """Share of the index's answers that score at least the exact k-th best (ties are fine)."""
    k = min(k, len(vectors))
    if k == 0 or len(queries) == 0:
        return 1.0
    rows, _ = index.search(queries, k)
    kth = top_k(queries, vectors, k)[1][:, -1:]
    query = np.repeat(np.arange(len(queries)), k)
    scores = pair_scores(queries, vectors, query, rows.ravel()).reshape(rows.shape)
    return float(((rows >= 0) & (scores >= kth)).mean())


def _spread(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most RECALL_QUERIES of `queries (Q, d)`, evenly spread."""
    step = max(1, -(-len(queries) // RECALL_QUERIES))
    return np.ascontiguousarray(queries[::step], np.float32)


def _ids_file(path: Path) -> Path:
    return path.with_name(path.name + ".ids.json")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
