"""`freeze_backbone`: the trunk reads every picture once, and training reads what it saw."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recjob.catalog.catalog import Float32Array, Int64Array
from recjob.errors import RecjobError
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender
from recjob.settings import Settings, TrainingSettings
from recjob.training.compute import Compute
from recjob.training.data import TrainingData
from recjob.training.distributed import Ranks

MEMORY_BYTES: Final = 2**30
"""More features than this lie in a file that is mapped into memory."""
WIDEST_WHOLE: Final = 4096
"""Wider features are kept in half precision: AlexNet's before fc6 are 9216 numbers of each
picture, 37 kB in single precision."""

Progress = Callable[[int, int, str], None]


class FrozenFeatures:
    """Trunk features of every usable item, as it is and mirrored."""

    def __init__(self, kept: NDArray[Any], rows: Int64Array) -> None:
        """`kept (n, 1 or 2, width)`: plain and, where there are flips, mirrored.

        `rows (n_items,)` is the place of each item in `kept`.
        """
        self.kept = kept
        self._rows = rows

    def gather(self, items: Int64Array, mirrored: Tensor | None = None) -> Tensor:
        """Features `(n, width)` float32 of items `(n,)`, mirrored where `mirrored (n,)` says so."""
        views = 0 if mirrored is None else mirrored.numpy().astype(np.int64)
        # A fancy index copies: the result is memory of its own, in any precision.
        return torch.from_numpy(self.kept[self._rows[items], views]).float()

    @torch.inference_mode()
    def item_features(
        self, model: OutfitRecommender, items: Int64Array, batch_size: int, compute: Compute
    ) -> Float32Array:
        """Item features `(n, 128)` of unmirrored items `(n,)`; the model's mode is restored.

        Those that an engine would give for their pictures.
        """
        training = model.training
        model.eval()
        features = np.empty((len(items), FEATURE_DIM), np.float32)
        for start in range(0, len(items), batch_size):
            part = slice(start, start + batch_size)
            with compute.autocast():
                encoded = model.encode_trunk_features(self.gather(items[part]).to(compute.device))
            features[part] = encoded.float().cpu().numpy()
        model.train(training)
        return features


@dataclass(frozen=True)
class _Kept:
    """What the last frozen trunk saw: trainings in a row often start from the same one."""

    pixels: NDArray[np.uint8]
    key: str
    features: NDArray[Any]


_last: _Kept | None = None


def freeze_trunk(
    model: OutfitRecommender,
    data: TrainingData,
    settings: Settings,
    options: TrainingSettings,
    compute: Compute,
    ranks: Ranks,
    on_progress: Progress | None = None,
) -> FrozenFeatures | None:
    """Hold the trunk of a model still and read every usable picture with it.

    Only what comes after the trunk has gradients from then on. Processes that train together read
    a share of the pictures each; a training after another with the same trunk and pictures reads
    none. More than `MEMORY_BYTES` lie in a file under `settings.home`
    that has no name and is gone with the process, however it ends.

    Returns None, and changes nothing, unless `options.freeze_backbone`.

    Raises:
        RecjobError: where a feature is not finite in the precision that it is kept in.
        OSError: where the file cannot be written.
    """
    if not options.freeze_backbone:
        return None
    model.backbone.trunk.requires_grad_(False)
    model.eval()
    usable = np.flatnonzero(data.catalog.item_usable)
    width = model.backbone.trunk_width
    kind = np.dtype(np.float32 if width <= WIDEST_WHOLE else np.float16)
    shape = (usable.size, 2 if options.flip else 1, width)
    rows = np.full(data.catalog.n_items, -1, np.int64)
    rows[usable] = np.arange(usable.size)
    global _last
    fits = int(np.prod(shape, dtype=np.int64)) * kind.itemsize <= MEMORY_BYTES
    key = _digest(model, data.picture_rows[usable], f"{shape} {fits} {compute}")
    if _last is not None and _last.pixels is data.pixels and _last.key == key:
        return FrozenFeatures(_last.features, rows)
    _last = None  # before the next is held

    def blocks() -> Iterator[NDArray[Any]]:
        step, done = settings.embed.batch_size * ranks.count, 0
        while done < usable.size:
            items = usable[done : done + step]
            with np.errstate(over="ignore"):  # told of below
                seen = _read(model, data, items, shape[1], compute, ranks).astype(kind)
            if not np.isfinite(seen).all():
                raise RecjobError(
                    f"backbone {model.backbone.name}: a frozen feature is not finite as {kind}; "
                    "bring other weights, or set freeze_backbone = false"
                )
            yield seen
            done += len(items)
            if on_progress is not None:
                on_progress(done, usable.size, "pictures read by the frozen backbone")

    if fits:
        features = _in_memory(blocks(), shape, kind)
    else:
        features = _in_file(blocks(), shape, kind, settings.home)
    _last = _Kept(data.pixels, key, features)
    return FrozenFeatures(features, rows)


def _digest(model: OutfitRecommender, rows: Int64Array, how: str) -> str:
    """Of the trunk's weights, the pictures' places and how they are read and kept."""
    digest = hashlib.sha256(f"{model.backbone.name} {how}".encode())
    digest.update(rows.tobytes())
    for name, tensor in model.backbone.trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _in_memory(
    blocks: Iterator[NDArray[Any]], shape: tuple[int, ...], kind: np.dtype[Any]
) -> NDArray[Any]:
    kept, done = np.empty(shape, kind), 0
    for block in blocks:
        kept[done : done + len(block)] = block
        done += len(block)
    return kept


def _in_file(
    blocks: Iterator[NDArray[Any]], shape: tuple[int, ...], kind: np.dtype[Any], folder: Path
) -> NDArray[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    # The file has no name, and lives until the map that is returned is gone.
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in blocks:
            # Written, not stored through a map: a full disk is then an error and not a crash.
            file.write(block.tobytes())
        file.flush()
        return np.memmap(file, kind, "r", shape=shape)


@torch.no_grad()
def _read(
    model: OutfitRecommender,
    data: TrainingData,
    items: Int64Array,
    views: int,
    compute: Compute,
    ranks: Ranks,
) -> Float32Array:
    """Trunk features `(n, views, width)` of items `(n,)`, of which this process reads a share."""
    own = items[ranks.own(len(items))]
    pixels = data.gather(own).to(compute.device)
    seen = torch.zeros(
        (len(own), views, model.backbone.trunk_width), dtype=torch.float32, device=compute.device
    )
    for view in range(views if len(own) else 0):
        with compute.autocast():
            found = model.backbone.trunk_features(pixels.flip(3) if view else pixels)
        seen[:, view] = found.float()
    gathered: Float32Array = ranks.gather(seen, len(items)).cpu().numpy()
    return gathered
