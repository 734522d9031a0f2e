"""The state of a training on disk, so that a killed one goes on where it was saved.

One safetensors file holds the tensors, and in its header, as JSON, the rest: no pickle. It is
written under another name, brought to the disk, and renamed, so it is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from recjob.catalog.catalog import Catalog
from recjob.catalog.disk import sync_file, sync_folder
from recjob.catalog.fingerprint import data_fingerprint
from recjob.errors import one_line
from recjob.inference.tensor_files import writing_tensors
from recjob.settings import AutoencoderSettings, Settings, TrainingSettings
from recjob.training.compute import choose_compute
from recjob.training.data import TrainingData
from recjob.training.distributed import Ranks

RECIPE_VERSION: Final = 1
"""Raise it whenever the same settings and data would give another model: a checkpoint of the old
recipe then counts as that of another training."""
WITHOUT_EFFECT: Final = ("prefetch", "checkpoint_minutes")
"""Settings that may change while a training is interrupted: its result does not depend on them."""
STATE_FILE: Final = "state.safetensors"
HEADER_KEY: Final = "state"
"""In the file's header: the rest, as JSON."""
DIGEST_KEY: Final = "sha256"
"""In the file's header: of the state and the tensors."""

Identity = Mapping[str, str]
"""What a training is, in words that can be compared: see `training_identity`."""

log = logging.getLogger(__name__)


class CheckpointFolder:
    """Where one training keeps its state; nothing else lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, identity: Identity, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Keep a state in place of the one before; `notes` is anything that JSON can hold.

        Raises OSError where the disk refuses it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        new = self.path / f".{STATE_FILE}-{os.getpid()}"
        # The file knows no strides; `load` gives plain ones, and whoever restores copies.
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        state = json.dumps({"identity": dict(identity), "notes": notes})
        header = {HEADER_KEY: state, DIGEST_KEY: _state_sha256(state, plain)}
        try:
            with writing_tensors(new):
                save_file(plain, new, header)
            sync_file(new)
            new.rename(self.path / STATE_FILE)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(self.path)

    def read(self) -> bytes:
        """The file of the last state; empty where there is none."""
        try:
            return (self.path / STATE_FILE).read_bytes()
        except FileNotFoundError:
            return b""

    def remove(self) -> None:
        """Forget everything; for after the model was saved."""
        shutil.rmtree(self.path, ignore_errors=True)


def unpack(content: bytes) -> tuple[dict[str, str], dict[str, Tensor], Any]:
    """Identity, tensors and notes of what `CheckpointFolder.save` wrote.

    Raises ValueError where it is no such file, or one that was damaged.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]
        if header[DIGEST_KEY] != _state_sha256(header[HEADER_KEY], tensors):
            raise ValueError("its sha256 differs")
        state = json.loads(header[HEADER_KEY])
        return state["identity"], tensors, state["notes"]
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no state of a training ({one_line(error)})") from None


def _state_sha256(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a training goes on from: a disk's flipped bit must not end up in a model."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


State = tuple[Mapping[str, Tensor], Any]
"""Tensors, and the rest as JSON."""


@dataclass
class Keeper:
    """Saves a training's state when it is due, and gives back the last one.

    Where processes train together the first one writes and reads, and tells the others. Without a
    folder nothing is saved.
    """

    folder: CheckpointFolder | None = None
    identity: Identity = field(default_factory=dict)
    minutes: float = 0.0
    ranks: Ranks = field(default_factory=Ranks)
    _saved: float = field(default_factory=time.monotonic)

    def save_if_due(self, state: Callable[[], State]) -> None:
        """Save what `state` gives where the last one is too old."""
        if time.monotonic() - self._saved >= 60 * self.minutes:
            self.save(state)

    @contextmanager
    def saved_when_stopped(self, state: Callable[[], State]) -> Iterator[None]:
        """Save where the block is told to stop; for blocks that leave the state as it is.

        Elsewhere a step may be half done, and the last state that was saved has to do.
        """
        try:
            yield
        except KeyboardInterrupt:
            self.save(state)
            raise

    def save(self, state: Callable[[], State]) -> None:
        """Save what `state` gives, in the first process."""
        if self.folder is not None and self.ranks.first:
            self.folder.save(self.identity, *state())
            self._saved = time.monotonic()

    def last(self) -> State | None:
        """The last state of this training; one of another training is removed."""
        if self.folder is None:
            return None
        content = self.ranks.broadcast(self.folder.read() if self.ranks.first else b"")
        if not content:
            return None
        try:
            identity, tensors, notes = unpack(content)
        except ValueError as error:
            self._discard(self.folder, str(error))
            return None
        changed = sorted(
            name
            for name in identity.keys() | self.identity.keys()
            if identity.get(name) != self.identity.get(name)
        )
        if changed:
            self._discard(self.folder, f"it is of another training (other {', '.join(changed)})")
            return None
        return tensors, notes

    def _discard(self, folder: CheckpointFolder, reason: str) -> None:
        if self.ranks.first:
            log.warning("%s: not continued: %s; removed", folder.path, reason)
            folder.remove()


def keeper_of(
    recipe: str,
    folder: CheckpointFolder | None,
    catalog: Catalog,
    settings: Settings,
    options: TrainingSettings | AutoencoderSettings,
    start: nn.Module,
    ranks: Ranks,
    *inputs: Tensor | NDArray[Any],
) -> Keeper:
    """The keeper of a recipe's states; without a folder it keeps nothing.

    The identity of the training is all that decides over its result.

    Args:
        recipe: its name.
        folder: where the states lie.
        catalog: what it learns from.
        settings: all settings.
        options: the recipe's own.
        start: what is trained, before the first step, so that other start weights are seen.
        ranks: the processes that train together.
        inputs: what else it learns from: the split, the size of the pictures, the teacher.
    """
    if folder is None or options.checkpoint_minutes == 0:
        return Keeper()
    read = {
        "seed": settings.seed,
        "options": options.model_dump(mode="json", exclude=set(WITHOUT_EFFECT)),
        "evaluation": settings.evaluation.model_dump(mode="json"),
    }
    identity = {
        "recipe": f"{recipe} {RECIPE_VERSION}",
        "catalog": data_fingerprint(catalog),
        "settings": json.dumps(read, sort_keys=True),
        "start weights": _digest(*start.state_dict().values()),
        "device or processes": f"{choose_compute(settings.compute)}, {ranks.count}",
        "split, pictures or teacher": _digest(*inputs),
    }
    return Keeper(folder, identity, options.checkpoint_minutes, ranks)


def split_and_pictures(data: TrainingData) -> tuple[NDArray[Any], ...]:
    """What tells one split, and one size of pictures, from another."""
    return data.parts, data.users, np.array(data.pixels.shape)


def _digest(*values: Tensor | NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def named_part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `part.`, without that."""
    start = f"{part}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of an optimiser's state, named by the place of its parameter."""
    return {
        f"{place}.{key}": value
        for place, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Undo `pack_optimizer`.

    Moments get the strides of their parameter back: fused steps walk both in the order in which
    they lie in memory.
    """
    parameters = _parameters(optimizer)
    for name, value in packed.items():
        place, _, key = name.partition(".")
        parameter = parameters[int(place)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        optimizer.state[parameter][key] = value.to(parameter.device)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
