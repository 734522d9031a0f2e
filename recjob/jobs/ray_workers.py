"""What a machine of the Ray cluster does with a shard: the same functions as on one machine.

It has no database: what it needs comes from the shared work folder and the artifacts.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load

from recjob.catalog.catalog import Float32Array
from recjob.errors import RecjobError, SettingsError
from recjob.inference.embedding import embed_items, embed_outfits
from recjob.inference.model_files import load_recommender
from recjob.inference.torch_engine import TorchEngine
from recjob.jobs.embedding_shards import WORK as EMBEDDING
from recjob.jobs.embedding_shards import Leftovers, What
from recjob.jobs.stages import disk_errors_told
from recjob.model.recommender import OutfitRecommender
from recjob.ranking.scorer import ShardScorer
from recjob.ranking.shard import ListOptions, ListShard, ScoringTable, UserShard
from recjob.store.artifacts import ArtifactFolder
from recjob.store.work_files import WorkFolder

NUMBER: Final = "number"
"""Columns of Ray Data's rows: which shard,"""
NODE: Final = "node"
"""Ray's id of the node that did it,"""
ERROR: Final = "error"
"""the class of the tree that it raised, or nothing,"""
MESSAGE: Final = "message"
"""and its message;"""
ENGINE: Final = "engine"
"""what computed,"""
SECONDS: Final = "seconds"
"""and what its batches took, as JSON."""


PIXELS: Final = "pixels"
"""Arrays of a batch of items: `(B, H, W, 3)` pictures;"""
FEATURES: Final = "features"
"""and of a batch of outfits: `(n, 128)` features of the items in them,"""
ITEMS: Final = "items"
"""`(B, M)` rows of those, padded with -1."""
KEY_BYTES: Final = 32
USERS: Final = "users-"
"""How the files of users begin."""


@dataclass(frozen=True)
class Latencies:
    """What the batches of a shard took."""

    engine: str
    seconds: tuple[float, ...]


class Worker(Protocol):
    """Does shards by their number; what it raises of the error tree is told by the driver."""

    def __call__(self, number: int) -> Latencies:
        """Read the shard's input and write its result."""


def do_shard(
    row: dict[str, Any], worker: type[Worker], arguments: tuple[Any, ...]
) -> dict[str, Any]:
    """The function of the Ray Data pipeline: the shard of `row`, by this process's worker."""
    import ray

    node = {**row, NODE: ray.get_runtime_context().get_node_id()}
    try:
        with disk_errors_told(Path(tempfile.gettempdir())):
            latencies = _worker(worker, arguments)(int(row[NUMBER]))
    except RecjobError as error:
        message = f"{socket.gethostname()}: {error}"
        told = {ERROR: type(error).__name__, MESSAGE: message}
        return {**node, **told, ENGINE: "", SECONDS: "[]"}
    seconds = json.dumps(latencies.seconds)
    return {**node, ERROR: "", MESSAGE: "", ENGINE: latencies.engine, SECONDS: seconds}


def latencies_of(row: dict[str, Any]) -> Latencies:
    """Those of a row that `do_shard` gave."""
    return Latencies(row[ENGINE], tuple(json.loads(row[SECONDS])))


@lru_cache(maxsize=1)
def _worker(worker: type[Worker], arguments: tuple[Any, ...]) -> Worker:
    """Made at the first shard of a process, and kept: it holds a model, or a table of outfits."""
    return worker(*arguments)


def table_name(fingerprint: str) -> str:
    """File of what all shards of a night share."""
    return f"{fingerprint}/table"


def users_name(fingerprint: str, number: int) -> str:
    """File of a shard's users."""
    return f"{fingerprint}/{USERS}{number:06d}"


def lists_name(fingerprint: str, number: int) -> str:
    """File of a shard's lists."""
    return f"{fingerprint}/lists-{number:06d}"


def keys_name(name: str) -> str:
    """File of what the vectors of the shard with the input `name` are known by."""
    return f"{name}/keys"


def batch_name(name: str, number: int) -> str:
    """File of a batch of the shard with the input `name`."""
    return f"{name}/batch-{number:06d}"


class ScoringWorker:
    """Scores shards of one night."""

    def __init__(self, root: str, url: str, work: str, fingerprint: str, options: str) -> None:
        self._folder = shared_work(root, url, work)
        self._fingerprint = fingerprint
        table = ScoringTable.from_bytes(self._folder.require(table_name(fingerprint)))
        self._scorer = ShardScorer(table, ListOptions.model_validate_json(options))

    def __call__(self, number: int) -> Latencies:
        """Score the shard and keep its lists."""
        users = UserShard.from_bytes(self._folder.require(users_name(self._fingerprint, number)))
        lists, seconds = timed_lists(self._scorer, users)
        self._folder.write(lists_name(self._fingerprint, number), lists.to_bytes())
        return Latencies(self._scorer.engine(users), seconds)


def timed_lists(scorer: ShardScorer, users: UserShard) -> tuple[ListShard, tuple[float, ...]]:
    """The lists of a shard and what they took; nothing where nobody has a vector."""
    began = time.perf_counter()
    lists = scorer(users)
    return lists, (time.perf_counter() - began,) if len(users.rows) else ()


@dataclass(frozen=True)
class Student:
    """The model that shards are embedded with, and how."""

    model_id: str
    sha256: str
    device: str
    bf16: bool
    threads: int
    """Of torch: as where the night was started, so that sums are taken in the same order."""
    batch_size: int


class EmbeddingWorker:
    """Embeds shards of items, or of outfits."""

    def __init__(self, root: str, url: str, what: What, student: Student) -> None:
        if student.device == "cuda" and not torch.cuda.is_available():
            raise SettingsError(
                "Ray gives a shard no CUDA device here; set ray.gpus_per_shard, or "
                'compute.device = "cpu"'
            )
        torch.set_num_threads(student.threads)
        self._engine = TorchEngine(_model(root, url, student), student.device, student.bf16)
        folder = shared_work(root, url, EMBEDDING)
        self._leftovers = Leftovers(folder, student.model_id, self._engine.name)
        self._what, self._batch_size = what, student.batch_size
        self._seconds: list[float] = []

    def __call__(self, number: int) -> Latencies:
        """Embed the shard batch by batch and keep its vectors."""
        self._seconds.clear()
        folder = self._leftovers.folder
        name = self._leftovers.input_name(self._what, number)
        keys = np.frombuffer(folder.require(keys_name(name)), np.uint8).reshape(-1, KEY_BYTES)
        vectors = [
            self._embedded(load(folder.require(batch_name(name, batch))))
            for batch in range(-(-len(keys) // self._batch_size))
        ]
        self._leftovers.write(self._what, keys, np.concatenate(vectors))
        return Latencies(self._engine.name, tuple(self._seconds))

    def _embedded(self, batch: dict[str, NDArray[Any]]) -> Float32Array:
        if self._what == "items":
            pixels = batch[PIXELS]
            rows = np.arange(len(pixels))
            return embed_items(
                self._engine, pixels, rows, self._batch_size, None, self._seconds.append
            )
        features, items = batch[FEATURES], batch[ITEMS]
        return embed_outfits(
            self._engine, features, items, self._batch_size, None, self._seconds.append
        )


def shared_work(root: str, url: str, work: str) -> WorkFolder:
    """The work folder that the driver writes to; SettingsError where this machine has none."""
    if not (url or Path(root).is_dir()):
        raise SettingsError(
            f"{root} is not on this machine; set artifacts_url to a storage, or a folder, that "
            "every machine of the cluster reaches"
        )
    return WorkFolder(Path(root), url, work)


def _model(root: str, url: str, student: Student) -> OutfitRecommender:
    if not url:
        shared_work(root, url, EMBEDDING)
        folder = ArtifactFolder(Path(root)).model(student.model_id, student.sha256)
        return load_recommender(folder).model
    # The driver's folder may not be there, or not ours to write to; the model is read once.
    with tempfile.TemporaryDirectory(prefix="recjob-") as cache:
        folder = ArtifactFolder(Path(cache), url).model(student.model_id, student.sha256)
        return load_recommender(folder).model
