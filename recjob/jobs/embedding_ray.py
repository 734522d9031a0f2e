"""Shards of items and outfits, embedded by machines of a Ray cluster.

A shard goes there as a file per batch, so that no machine holds more than a batch of pictures; what
comes back is the same file as on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from recjob.catalog.catalog import PADDING, Float32Array, Int64Array
from recjob.inference.embedding import Timer
from recjob.jobs.embedding_keys import UInt8Array
from recjob.jobs.embedding_shards import Leftovers, What
from recjob.jobs.ray_cluster import run_shards
from recjob.jobs.ray_workers import (
    FEATURES,
    ITEMS,
    PIXELS,
    EmbeddingWorker,
    Latencies,
    Student,
    batch_name,
    keys_name,
)
from recjob.jobs.runner import JobContext
from recjob.store.models import ModelRow
from recjob.training.compute import Compute

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EmbeddingCluster:
    """The cluster, ready to embed with one student."""

    context: JobContext
    leftovers: Leftovers
    student: Student
    timer: Callable[[What], Timer]
    """Gives what is told the seconds of each batch."""

    @classmethod
    def of(
        cls,
        context: JobContext,
        leftovers: Leftovers,
        row: ModelRow,
        compute: Compute,
        timer: Callable[[What], Timer],
    ) -> EmbeddingCluster:
        """For the model `row`, computing as this machine would."""
        student = Student(
            model_id=row.model_id,
            sha256=row.sha256,
            device=compute.device.type,
            bf16=compute.bf16,
            threads=torch.get_num_threads(),
            batch_size=context.settings.embed.batch_size,
        )
        return cls(context, leftovers, student, timer)

    def doing(
        self,
        what: What,
        keys: UInt8Array,
        batch: Callable[[Int64Array], Arrays],
        progress: Callable[[int], object],
    ) -> Callable[[Sequence[Int64Array]], None]:
        """What embeds shards, each given as rows of `keys (n, 32)`.

        `batch` makes the input of some rows; `progress` is told how many are done.
        """

        def embed(shards: Sequence[Int64Array]) -> None:
            folder = self.leftovers.folder

            def prepare(number: int) -> None:
                self.context.check_lease()
                name, rows = self.leftovers.input_name(what, number), shards[number]
                folder.write(keys_name(name), keys[rows].tobytes())
                size = self.student.batch_size
                for place, start in enumerate(range(0, len(rows), size)):
                    arrays = batch(rows[start : start + size])
                    folder.write(batch_name(name, place), save(arrays))

            def done(number: int, latencies: Latencies) -> None:
                for seconds in latencies.seconds:
                    self.timer(what)(seconds)
                self.context.check_lease()
                folder.remove(self.leftovers.input_name(what, number))
                progress(len(shards[number]))

            settings = self.context.settings
            root = str(self.context.artifacts.root.resolve())
            arguments = (root, settings.artifacts_url, what, self.student)
            numbers = range(len(shards))
            nodes = run_shards(settings.ray, numbers, prepare, EmbeddingWorker, arguments, done)
            self.context.freeze(**{f"ray_{what}": nodes})

        return embed


def picture_batch(pixels: UInt8Array, rows: NDArray[Any]) -> Arrays:
    """Input of a batch of items: their pictures `pixels[rows]`."""
    return {PIXELS: np.ascontiguousarray(pixels[rows])}


def outfit_batch(features: Float32Array, outfit_items: NDArray[Any]) -> Arrays:
    """Input of a batch of outfits `(B, M)` of items with `features (n, 128)`."""
    # The first item always comes along, as the first: masked places hold it, as on one machine.
    used = np.unique(np.append(outfit_items[outfit_items != PADDING], 0))
    local = np.where(outfit_items == PADDING, PADDING, np.searchsorted(used, outfit_items))
    return {FEATURES: features[used], ITEMS: local}
