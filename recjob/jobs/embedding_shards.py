"""Embedding in shards: what a finished shard computed is a file, and is not computed again.

The shards of what is missing are whole batches in ascending order. So what a killed job has still
to do are the very batches that it would have done, and every vector comes out the same to the bit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from recjob.catalog.catalog import Float32Array, Int64Array
from recjob.errors import TemporaryError
from recjob.jobs.embedding_keys import UInt8Array, distinct, places
from recjob.model.recommender import FEATURE_DIM
from recjob.store.work_files import WorkFolder

if TYPE_CHECKING:
    from recjob.jobs.runner import JobContext

WORK: Final = "embed"
_NAME_CHARACTERS: Final = 32
"""Of the sha256 of a shard's keys, which names its file: 128 bits, so that no two are alike."""
_INPUT: Final = "input-"

What = Literal["items", "outfits"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leftovers:
    """Vectors of finished shards that are in no saved file of the model yet."""

    folder: WorkFolder
    model_id: str
    engine: str
    """Name of the engine; what another one computed is not mixed in."""

    @classmethod
    def of(cls, context: JobContext, model_id: str, engine: str) -> Leftovers:
        """Those of the model; what is left of models that are in use no longer is removed.

        So are inputs of shards that a killed job gave to other machines.
        """
        folder = WorkFolder(context.artifacts.root, context.settings.artifacts_url, WORK)
        parts = {tuple(name.split("/")[:2]) for name in folder.names()}
        for name in {model for model, *_ in parts} - {model_id}:
            folder.remove(name)
        for name in {rest[0] for model, *rest in parts if model == model_id}:
            if name.startswith(_INPUT):
                folder.remove(f"{model_id}/{name}")
        return cls(folder, model_id, engine)

    def input_name(self, what: What, number: int) -> str:
        """Folder of what another machine needs for a shard of this job."""
        return f"{self.model_id}/{_INPUT}{what}-{number:06d}"

    def write(self, what: What, keys: UInt8Array, vectors: Float32Array) -> None:
        """A shard is finished: `vectors (n, 128)` of what `keys (n, 32)` name."""
        tensors: dict[str, NDArray[Any]] = {
            "keys": keys,
            "vectors": vectors,
            "engine": self._engine,
        }
        digest = hashlib.sha256(keys.tobytes()).hexdigest()[:_NAME_CHARACTERS]
        self.folder.write(f"{self.model_id}/{what}-{digest}", save(tensors))

    def read(self, what: What) -> tuple[UInt8Array, Float32Array]:
        """Keys `(n, 32)` and vectors `(n, 128)` of all finished shards; the damaged are removed."""
        keys, vectors = [np.empty((0, 32), np.uint8)], [np.empty((0, FEATURE_DIM), np.float32)]
        for name in self.folder.names():
            if not name.startswith(f"{self.model_id}/{what}-"):
                continue
            data = self.folder.read(name)
            if data is None:
                log.warning("%s is damaged; its vectors are computed again", name)
                continue
            try:
                found = load(data)
                sound = np.array_equal(found["engine"], self._engine)
            except (SafetensorError, KeyError):
                sound = False
            if sound:
                keys.append(found["keys"])
                vectors.append(found["vectors"])
            else:
                self.folder.remove(name)
        return np.concatenate(keys), np.concatenate(vectors)

    def remove(self) -> None:
        """All are in a saved file."""
        self.folder.remove()

    @property
    def _engine(self) -> UInt8Array:
        return np.frombuffer(self.engine.encode(), np.uint8)


def plan_shards(n: int, shard_items: int, batch_size: int) -> tuple[slice, ...]:
    """Shards of `n` things in ascending order: `shard_items`, rounded up to whole batches."""
    size = -(-shard_items // batch_size) * batch_size
    return tuple(slice(start, min(start + size, n)) for start in range(0, n, size))


def vectors_in_shards(
    context: JobContext,
    leftovers: Leftovers,
    what: What,
    keys: UInt8Array,
    compute: Callable[[Int64Array], Float32Array],
    cluster: Callable[[Sequence[Int64Array]], None] | None = None,
) -> Float32Array:
    """Vectors `(n, 128)` of what `keys (n, 32)` name, each distinct one computed once.

    `compute` takes rows of `keys` (a shard of them, ascending) and gives their vectors. SIGTERM
    waits for the end of a shard. Where there is a `cluster`, it takes the rows of all shards
    instead, and leaves their vectors among `leftovers`.
    """
    first, place = distinct(keys)
    vectors, missing = _finished(leftovers, what, keys[first])
    if len(missing) < len(first):
        log.warning("%d of %d %s are there already", len(first) - len(missing), len(first), what)
    settings = context.settings
    shards = [
        missing[part]
        for part in plan_shards(
            len(missing), settings.nightly.shard_items, settings.embed.batch_size
        )
    ]
    if cluster is None:
        for part in shards:
            with context.shard():
                vectors[part] = compute(first[part])
                leftovers.write(what, keys[first[part]], vectors[part])
    elif shards:
        cluster([first[part] for part in shards])
        vectors, missing = _finished(leftovers, what, keys[first])
        if len(missing):
            raise TemporaryError(
                f"vectors of {len(missing)} {what} did not come back from the cluster whole; run "
                "the job again: finished shards stay"
            )
    return vectors[place]


def _finished(
    leftovers: Leftovers, what: What, keys: UInt8Array
) -> tuple[Float32Array, Int64Array]:
    """Vectors `(n, 128)` of `keys (n, 32)` so far, and the rows that lack one."""
    found_keys, found_vectors = leftovers.read(what)
    row = places(keys, found_keys)
    vectors = np.empty((len(keys), FEATURE_DIM), np.float32)
    vectors[row >= 0] = found_vectors[row[row >= 0]]
    return vectors, np.flatnonzero(row < 0)
