"""Model folders: safetensors and JSON, no pickle. User vectors lie apart, so one can be deleted."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recjob.errors import DataError, SettingsError, one_line
from recjob.inference.tensor_files import writing_tensors
from recjob.model.autoencoder import Autoencoder
from recjob.model.recommender import OutfitRecommender
from recjob.model.torchvision_trunk import ALEXNET

MODEL_FILE = "model.safetensors"
USERS_FILE = "users.safetensors"
USER_IDS_FILE = "users.json"
DESCRIPTION_FILE = "model.json"
USERS_KEY = "users.weight"

RECOMMENDER_FILES = (MODEL_FILE, USERS_FILE, USER_IDS_FILE, DESCRIPTION_FILE)
AUTOENCODER_FILES = (MODEL_FILE, DESCRIPTION_FILE)

_MISFITS = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError)
"""What a description of other types and sizes leads to, in Python and in torch."""


@dataclass(frozen=True)
class StoredRecommender:
    """A recommender read from its folder, in eval mode."""

    model: OutfitRecommender
    user_ids: tuple[str, ...]
    """(n_users,) the user of each row of `model.users`."""
    image_size: int
    """Side in pixels of the pictures that it was trained on."""


def save_recommender(
    folder: Path, model: OutfitRecommender, user_ids: tuple[str, ...], image_size: int
) -> None:
    """Write a recommender into an existing folder."""
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    users = state.pop(USERS_KEY)
    _write_tensors(folder / MODEL_FILE, state)
    _write_tensors(folder / USERS_FILE, {USERS_KEY: users})
    _write_json(folder / USER_IDS_FILE, list(user_ids))
    description = {"size": model.size, "backbone": model.backbone.name, "image_size": image_size}
    _write_json(folder / DESCRIPTION_FILE, description)


def load_recommender(folder: Path) -> StoredRecommender:
    """Read a recommender; raises DataError where the folder holds none."""
    description = _read_json(folder / DESCRIPTION_FILE)
    user_ids = read_user_ids(folder)
    try:
        backbone = str(description.get("backbone", ALEXNET))  # absent in older folders
        with _weights_to_be_replaced(backbone):
            model = OutfitRecommender(description["size"], len(user_ids), backbone=backbone)
        image_size = int(description["image_size"])
    except (*_MISFITS, SettingsError) as error:
        raise DataError(
            f"{folder}: holds no recommender ({DESCRIPTION_FILE}: {one_line(error)})"
        ) from None
    _load(model, folder, MODEL_FILE, USERS_FILE)
    return StoredRecommender(model, tuple(user_ids), image_size)


def write_without_users(source: Path, target: Path, leave_out: Collection[str]) -> None:
    """Write the users' two files of the recommender in `source` to `target`, without some users.

    The others keep their vectors to the bit, and their order.
    """
    user_ids = read_user_ids(source)
    kept = [row for row, user in enumerate(user_ids) if user not in leave_out]
    users = load_file(source / USERS_FILE)[USERS_KEY]
    _write_tensors(target / USERS_FILE, {USERS_KEY: users[kept].contiguous()})
    _write_json(target / USER_IDS_FILE, [user_ids[row] for row in kept])


def read_user_ids(folder: Path) -> list[str]:
    """The user of each row of a recommender's vectors; raises DataError where it has no such."""
    user_ids = _read_json(folder / USER_IDS_FILE)
    if not isinstance(user_ids, list) or not all(isinstance(user, str) for user in user_ids):
        raise DataError(f"{folder / USER_IDS_FILE}: is no list of user ids")
    return user_ids


def save_autoencoder(folder: Path, model: Autoencoder, image_size: int, latent_dim: int) -> None:
    """Write an autoencoder into an existing folder."""
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    _write_tensors(folder / MODEL_FILE, state)
    _write_json(folder / DESCRIPTION_FILE, {"image_size": image_size, "latent_dim": latent_dim})


def load_autoencoder(folder: Path) -> Autoencoder:
    """Read an autoencoder in eval mode; raises DataError where the folder holds none."""
    description = _read_json(folder / DESCRIPTION_FILE)
    try:
        image_size, latent_dim = int(description["image_size"]), int(description["latent_dim"])
        if min(image_size, latent_dim) < 1:
            raise ValueError("sizes must be above 0")
        with torch.device("meta"):  # nothing is allocated for a size that the file does not have
            model = Autoencoder(image_size, latent_dim)
    except _MISFITS as error:
        raise DataError(
            f"{folder}: holds no autoencoder ({DESCRIPTION_FILE}: {one_line(error)})"
        ) from None
    _load(model, folder, MODEL_FILE)
    return model


@contextmanager
def _weights_to_be_replaced(backbone: str) -> Iterator[None]:
    """Drawing weights that the file's replace would take longest, so AlexNet gets none.

    Some models of torchvision compute their own shape with tensors and cannot be built so.
    """
    if backbone == ALEXNET:
        with torch.device("meta"):
            yield
    else:
        with torch.random.fork_rng(devices=[]):
            yield


def _load(model: OutfitRecommender | Autoencoder, folder: Path, *files: str) -> None:
    state: dict[str, Tensor] = {}
    try:
        for name in files:
            state |= load_file(folder / name)
        model.load_state_dict(state, assign=True)
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{folder}: the model cannot be read ({one_line(error)})") from None
    model.eval()


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with writing_tensors(path):
        save_file(tensors, path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing; this is no model folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
