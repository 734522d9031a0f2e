"""Outfit vectors as a FAISS file: for services that search on their own, and for nights whose
candidates are too many to scan (`nightly.search = "index"`).

Two files: `NAME` (FAISS, inner product) and `NAME.ids.json`: the outfit of each row, how the index
is to be searched, what it was built from, and the sha256 of `NAME`, so that a half-written or mixed
pair is noticed. `index_build` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recjob.catalog.hashing import file_sha256
from recjob.errors import RecjobError
from recjob.ranking.exact import EMPTY, Keys, best, decode, encode, pair_scores

Kind = Literal["flat", "ivf", "hnsw"]
Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]

MARGIN: Final = 16
"""Rows asked for beyond k: FAISS breaks ties, and rounds, in its own way; the exact scores of a few
more put the last places right."""
QUERIES_PER_BLOCK: Final = 1024
PLACES_PER_BLOCK: Final = 2**20
"""Rows that FAISS returns at once, for all queries of a block: 12 MiB, and as much to rescore."""
_faiss: Final[Any] = faiss  # its type stubs lack what its Python layer adds


class IndexDescription(BaseModel):
    """The second file of an index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """Of the FAISS file."""
    source: str
    """A digest of all that the index was built from."""
    kind: Kind
    probes: int
    """ivf: cells that a query looks into."""
    search_effort: int
    """hnsw: candidates that a query looks at."""
    recall: float
    """Share of the exact best that it found when it was built."""
    outfit_ids: tuple[str, ...]
    """The outfit of each row."""


@dataclass(frozen=True)
class OutfitIndex:
    """An index in memory: row i is outfit `outfit_ids[i]`."""

    index: Any
    outfit_ids: tuple[str, ...]
    kind: Kind
    probes: int
    search_effort: int

    def search(self, vectors: Float32Array, k: int) -> tuple[Int64Array, Float32Array]:
        """Rows `(Q, k)` (-1: none) and inner products `(Q, k)` of the best for `(Q, d)`.

        As FAISS gives them: in its float32, and ties in its order.
        """
        queries = np.ascontiguousarray(vectors, np.float32)
        scores, rows = self.index.search(queries, k, params=self._parameters(None))
        return rows, scores

    def vectors(self, rows: Int64Array) -> Float32Array:
        """The vectors `(n, d)` of rows."""
        found: Float32Array = self.index.reconstruct_batch(rows)
        return found

    def search_allowed(
        self,
        queries: Float32Array,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        exclude: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> tuple[Int64Array, Float32Array]:
        """The `k` best rows that the index finds for each query, and their exact scores.

        `allowed` is looked at inside of FAISS. `exclude` is not, as FAISS takes one filter for all
        queries: it is asked for as many rows more as a query of the block excludes, at most, and
        what is excluded is dropped; queries that exclude alike many share a block. A query that
        gets fewer than k rows though there are more is answered by a scan of all allowed rows.

        Args:
            queries: `(Q, d)`, of any norm.
            k: length of a list.
            allowed: `(N,)` rows that anybody may get; None: all.
            exclude: CSR `(indptr (Q + 1,), rows)` that a query must not get.

        Returns:
            Rows `(Q, k)` int64 and scores `(Q, k)` float32 as of `pair_scores`, best first, ties
            by the lower row; empty places are -1 and -inf.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        total = self.index.ntotal
        n_allowed = total if allowed is None else int(np.count_nonzero(allowed))
        if 0 in (len(queries), k, n_allowed):
            return rows, scores
        excluded = _excluded_pairs(exclude, allowed, total)
        counts = np.bincount(excluded // total, minlength=len(queries))
        order = np.argsort(counts, kind="stable")
        search = _Search(self, None if allowed is None else _selector(allowed), excluded)
        start = 0
        while start < len(order):
            asked = k + MARGIN + int(counts[order[min(start + QUERIES_PER_BLOCK, len(order)) - 1]])
            size = max(1, min(QUERIES_PER_BLOCK, PLACES_PER_BLOCK // asked))
            part = order[start : start + size]
            start += size
            asked = min(k + MARGIN + int(counts[part[-1]]), n_allowed)
            keys = search.keys(queries, part, k, asked, everything=False)
            found = np.count_nonzero(keys != EMPTY, axis=1)
            short = found < np.minimum(k, n_allowed - counts[part])
            if short.any():
                keys[short] = search.keys(queries, part[short], k, asked, everything=True)
            rows[part], scores[part] = decode(keys)
        return rows, scores

    def _parameters(self, selector: Any, *, everything: bool = False) -> Any:
        """What a search of this kind takes; `everything`: all cells."""
        if self.kind == "ivf":
            probes = self.index.nlist if everything else self.probes
            return _faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        if self.kind == "hnsw" and not everything:
            return _faiss.SearchParametersHNSW(sel=selector, efSearch=self.search_effort)
        return _faiss.SearchParameters(sel=selector)


@dataclass(frozen=True)
class _Search:
    """One call of `search_allowed`."""

    owner: OutfitIndex
    selector: Any
    excluded: Int64Array
    """Ascending: query times N plus row."""

    def keys(
        self, queries: Float32Array, part: Int64Array, k: int, asked: int, *, everything: bool
    ) -> Keys:
        """Sorted keys `(len(part), k)` of the queries `part`, of `asked` rows each."""
        index = self.owner.index
        if everything and self.owner.kind == "hnsw":
            index = index.storage
        parameters = self.owner._parameters(self.selector, everything=everything)
        _, rows = index.search(queries[part], asked, params=parameters)
        keys = np.full((len(part), max(k, asked)), EMPTY, np.int64)
        query, place = np.nonzero(rows >= 0)
        found = rows[query, place]
        kept = ~_contains(self.excluded, part[query] * index.ntotal + found)
        query, place, found = query[kept], place[kept], found[kept]
        if len(found):
            distinct, column = np.unique(found, return_inverse=True)
            vectors = self.owner.vectors(distinct)
            exact = pair_scores(queries[part], vectors, query, column)
            keys[query, place] = encode(exact, found)
        return best(keys, k)


def read_index(path: Path, outfit_ids: Sequence[str] | None = None) -> OutfitIndex:
    """The index at `path`; its rows must be `outfit_ids` where they are given.

    Raises RecjobError for a file that is missing, damaged or of other outfits.
    """
    try:
        described = IndexDescription.model_validate_json(description_file(path).read_bytes())
        found = file_sha256(path)
    except ValidationError:
        reason = f"{description_file(path).name} is damaged, or of another version"
        raise RecjobError(f"{path}: index cannot be read ({reason}); run `embed` again") from None
    except OSError as error:
        raise RecjobError(f"{path}: index cannot be read ({error}); run `embed` again") from None
    if found != described.sha256:
        raise RecjobError(f"{path}: index does not match its list of ids; run `embed` again")
    index = open_index(path, described)
    ids = described.outfit_ids
    if index.index.ntotal != len(ids):
        raise RecjobError(
            f"{path}: {index.index.ntotal} vectors for {len(ids)} outfits; run `embed` again"
        )
    if outfit_ids is not None and ids != tuple(outfit_ids):
        raise RecjobError(f"{path}: index holds other outfits than asked for; run `embed` again")
    return index


def open_index(path: Path, described: IndexDescription) -> OutfitIndex:
    """The FAISS file `path`, unchecked, to be searched as `described`."""
    index = _faiss.read_index(os.fspath(path))
    if described.kind == "ivf":
        index.make_direct_map()  # where each row lies: rescoring reads vectors by row
    return OutfitIndex(
        index, described.outfit_ids, described.kind, described.probes, described.search_effort
    )


def description_file(path: Path) -> Path:
    """The second file of the index `path`."""
    return path.with_name(path.name + ".ids.json")


def _selector(allowed: NDArray[np.bool_]) -> Any:
    return _faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _excluded_pairs(
    exclude: tuple[NDArray[Any], NDArray[Any]] | None,
    allowed: NDArray[np.bool_] | None,
    total: int,
) -> Int64Array:
    """The excluded pairs that are allowed otherwise: query times N plus row, ascending, unique."""
    if exclude is None:
        return np.empty(0, np.int64)
    indptr, rows = exclude
    query = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    pairs = query * total + rows
    return np.unique(pairs if allowed is None else pairs[allowed[rows]])


def _contains(ascending: Int64Array, wanted: Int64Array) -> NDArray[np.bool_]:
    """`(n,)` whether each of `wanted (n,)` is in `ascending`."""
    if not len(ascending):
        return np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[place] == wanted
    return found
