"""Building the FAISS index of the outfits: flat, IVF or HNSW, its recall measured before it counts.

The same vectors and settings give the same file, byte for byte: a run that was killed and started
again must find what an undisturbed one finds. So the cells of IVF are trained by one thread from a
fixed seed, and the graph of HNSW is built by one thread, since with more of them it depends on who
comes first. That costs about a millisecond per outfit; for sets where that is too long, IVF is the
kind to take.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recjob.catalog.hashing import file_sha256
from recjob.errors import RefusedError
from recjob.ranking.exact import pair_scores
from recjob.ranking.index import (
    IndexDescription,
    Kind,
    OutfitIndex,
    description_file,
    open_index,
)
from recjob.ranking.index_files import Write, write_synced
from recjob.ranking.top_k import top_k
from recjob.settings import IndexSettings

CELLS_PER_ROOT: Final = 4
"""IVF has so many cells per square root of the number of outfits (FAISS's guidelines: 4 to 16)."""
TRAINING_POINTS_PER_CELL: Final = 64
"""Outfits that the cells are trained with, evenly spread: FAISS asks for 39 at least, and ten
passes over a million of them would take one thread minutes."""
TRAINING_PASSES: Final = 10
_ADD_ROWS: Final = 2**16
_faiss: Final[Any] = faiss  # its type stubs lack what its Python layer adds
_RAISE: Final[dict[Kind, str]] = {
    "flat": "lower index.recall_floor",
    "ivf": "raise index.probes (now {probes})",
    "hnsw": "raise index.search_effort (now {search_effort}) or index.links (now {links})",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexFile:
    """A written index."""

    path: Path
    sha256: str
    """Of the FAISS file."""
    n_outfits: int
    kind: Kind
    recall: float
    """Share of the exact k best that the index, read back from its file, returns."""
    built: bool
    """False where the file was there already, of the same vectors and settings."""


def build_index(
    path: Path,
    outfit_vectors: NDArray[np.float32],
    outfit_ids: Sequence[str],
    queries: NDArray[np.float32],
    k: int,
    options: IndexSettings = IndexSettings(),  # noqa: B008  (frozen)
    seed: int = 0,
) -> IndexFile:
    """Write the index of `outfit_vectors (N, d)`, unit vectors, and measure it.

    Up to `recall_queries` of `queries (Q, d)`, evenly spread, ask for their `k` best. An index
    without outfits or without queries has recall 1. Nothing is built where the file at `path`
    came from the same.

    Raises RefusedError where the recall is below the floor; the files before stay as they were.
    """
    if len(outfit_vectors) != len(outfit_ids):
        raise ValueError(f"{len(outfit_vectors)} vectors for {len(outfit_ids)} outfits")
    asking = _spread(queries, options.recall_queries)
    source = _source(outfit_vectors, outfit_ids, asking, k, options, seed)
    described = _present(path, source)
    if described is not None:
        _check_floor(path, described.kind, described.recall, options)
        return IndexFile(
            path, described.sha256, len(outfit_ids), described.kind, described.recall, built=False
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".writing")
    description_temporary = path.with_name(description_file(path).name + ".writing")
    try:
        kind, index = _build(outfit_vectors, options, seed)
        sha256 = write_synced(temporary, partial(_write, index))
        del index  # what follows reads the file
        described = IndexDescription(
            sha256=sha256,
            source=source,
            kind=kind,
            probes=options.probes,
            search_effort=options.search_effort,
            recall=0.0,
            outfit_ids=tuple(outfit_ids),
        )
        recall = _recall(open_index(temporary, described), outfit_vectors, asking, k)
        log.info("index: %s of %d outfits, recall %.4f", kind, len(outfit_ids), recall)
        _check_floor(path, kind, recall, options)
        text = described.model_copy(update={"recall": recall}).model_dump_json().encode()
        write_synced(description_temporary, lambda write: write(text))
        temporary.replace(path)
        description_temporary.replace(description_file(path))
    finally:
        temporary.unlink(missing_ok=True)
        description_temporary.unlink(missing_ok=True)
    return IndexFile(path, sha256, len(outfit_ids), kind, recall, built=True)


def _build(vectors: NDArray[np.float32], options: IndexSettings, seed: int) -> tuple[Kind, Any]:
    """The kind that was built, and the index. There is nothing to divide in no outfits."""
    n, width = vectors.shape
    if options.kind == "ivf" and n:
        cells = min(n, options.lists or max(1, round(CELLS_PER_ROOT * math.sqrt(n))))
        index = _faiss.IndexIVFFlat(
            _faiss.IndexFlatIP(width), width, cells, _faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed = seed
        index.cp.niter = TRAINING_PASSES
        index.cp.spherical = True  # outfit vectors lie on the unit sphere
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = TRAINING_POINTS_PER_CELL
        with _one_thread():
            index.train(_spread(vectors, cells * TRAINING_POINTS_PER_CELL))
        _add(index, vectors)
        return "ivf", index
    if options.kind == "hnsw" and n:
        index = _faiss.IndexHNSWFlat(width, options.links, _faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = options.build_effort
        with _one_thread():
            _add(index, vectors)
        return "hnsw", index
    index = _faiss.IndexFlatIP(width)
    _add(index, vectors)
    return "flat", index


def _write(index: Any, write: Write) -> None:
    _faiss.write_index(index, _faiss.PyCallbackIOWriter(write))


def _add(index: Any, vectors: NDArray[np.float32]) -> None:
    for start in range(0, len(vectors), _ADD_ROWS):
        index.add(np.ascontiguousarray(vectors[start : start + _ADD_ROWS], np.float32))


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS works with one thread in the block."""
    before = _faiss.omp_get_max_threads()
    _faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        _faiss.omp_set_num_threads(before)


def _present(path: Path, source: str) -> IndexDescription | None:
    """What is said of the index at `path`, where it is whole and was built from `source`."""
    try:
        described = IndexDescription.model_validate_json(description_file(path).read_bytes())
        same = described.source == source and file_sha256(path) == described.sha256
    except (OSError, ValidationError):
        return None
    return described if same else None


def _check_floor(path: Path, kind: Kind, recall: float, options: IndexSettings) -> None:
    if recall < options.recall_floor:
        advice = _RAISE[kind].format(**options.model_dump())
        raise RefusedError(
            f"{path}: the {kind} index finds {recall:.4f} of the exact best outfits, below "
            f"index.recall_floor = {options.recall_floor:g}; {advice}; the index before stays"
        )


def _source(
    vectors: NDArray[np.float32],
    outfit_ids: Sequence[str],
    queries: NDArray[np.float32],
    k: int,
    options: IndexSettings,
    seed: int,
) -> str:
    """A digest of all that the files depend on; the floor is no part of them."""
    told = options.model_dump_json(exclude={"recall_floor"})
    digest = hashlib.sha256(
        f"faiss {_faiss.__version__} {told} {seed} {k} {vectors.shape} {queries.shape}\n".encode()
    )
    digest.update(np.ascontiguousarray(vectors, np.float32).data)
    digest.update(queries.data)
    digest.update("\n".join(outfit_ids).encode())
    return digest.hexdigest()


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


def _spread(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most `most` of `rows (n, d)`, evenly spread."""
    step = max(1, -(-len(rows) // most))
    return np.ascontiguousarray(rows[::step], np.float32)
