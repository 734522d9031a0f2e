"""A large shop for benchmarks: small drawn pictures, many outfits and users, an untrained student.

Only sizes are real here. The student's weights are random, but its features are scaled as those
of a trained one are: outfits point into many directions, so that scoring is as hard as it should
be, and not as hard as among vectors that are all alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from recjob.inference.model_files import save_recommender
from recjob.jobs.model_record import new_record, write_record
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import read_shop, register_active
from recjob.model.recommender import OutfitRecommender, pixels_to_channels_first

CATEGORIES: Final = ("bottom", "shoes", "top")
PICTURE_SIDE: Final = 64
"""Pixels; the models' smallest size, since this is not about decoding."""
PATCHES: Final = 4
"""Random colours along a side of a picture."""
CALIBRATION_PICTURES: Final = 256
"""Pictures from which the spread of the features is measured."""


@dataclass(frozen=True)
class ShopSize:
    """How large the shop is."""

    users: int
    outfits: int
    items: int
    positives_per_user: int
    cold_share: float
    """Share of the users that the model does not know, though they like outfits."""
    stranger_share: float
    """Share of the users of whom nothing is known."""


def write_shop(folder: Path, size: ShopSize, seed: int) -> None:
    """Write a shop in the import format, with Parquet tables."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    names = [f"images/{number:07d}.jpg" for number in range(size.items)]
    for name in names:
        draw_picture(folder / name, rng)
    ids = np.char.add("i", np.char.zfill(np.arange(size.items).astype(str), 7))
    category = np.arange(size.items) % len(CATEGORIES)
    _write(
        folder / "items.parquet",
        item_id=pa.array(ids),
        category=pa.array(np.array(CATEGORIES)[category]),
        image=pa.array(names),
    )
    worn = [rng.choice(np.flatnonzero(category == c), size.outfits) for c in range(len(CATEGORIES))]
    places = np.stack(worn, axis=1)
    outfit_ids = np.char.add("o", np.char.zfill(np.arange(size.outfits).astype(str), 8))
    offsets = np.arange(size.outfits + 1, dtype=np.int32) * places.shape[1]
    _write(
        folder / "outfits.parquet",
        outfit_id=pa.array(outfit_ids),
        item_ids=pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids[places.ravel()])),
    )
    user_ids = user_names(size.users)
    active = size.users - round(size.users * size.stranger_share)
    users = np.repeat(np.arange(active), size.positives_per_user)
    pairs = np.unique(np.stack([users, rng.integers(0, size.outfits, len(users))], axis=1), axis=0)
    _write(
        folder / "interactions.parquet",
        user_id=pa.array(user_ids[pairs[:, 0]]),
        outfit_id=pa.array(outfit_ids[pairs[:, 1]]),
    )
    _write(folder / "users.parquet", user_id=pa.array(user_ids))


def draw_picture(path: Path, rng: np.random.Generator) -> None:
    """A picture of random patches; no two are alike."""
    patches = rng.integers(0, 256, (PATCHES, PATCHES, 3), dtype=np.uint8)
    side = PICTURE_SIDE // PATCHES
    Image.fromarray(patches.repeat(side, axis=0).repeat(side, axis=1)).save(path, quality=80)


def user_names(count: int) -> NDArray[np.str_]:
    """Ids of the users."""
    return np.char.add("u", np.char.zfill(np.arange(count).astype(str), 8))


def register_student(context: JobContext, size: ShopSize, seed: int) -> JobResult:
    """Make an untrained student for the imported shop and take it into use."""
    shop = read_shop(context)
    known = size.users - round(size.users * (size.stranger_share + size.cold_share))
    torch.manual_seed(seed)
    model = OutfitRecommender("xs", known).eval()
    rows = shop.picture_rows[shop.picture_rows >= 0][:CALIBRATION_PICTURES]
    pixels = torch.from_numpy(np.asarray(shop.pictures.pixels[rows]))
    spread_features(model, pixels_to_channels_first(pixels))
    user_ids = tuple(user_names(known).tolist())
    record = new_record("student", shop.catalog, context.settings, {})
    with context.artifacts.write_model(record.model_id) as folder:
        save_recommender(folder, model, user_ids, context.settings.images.size)
        write_record(folder, record)
    register_active(context, record)
    return JobResult()


@torch.no_grad()
def spread_features(model: OutfitRecommender, pixels: torch.Tensor) -> None:
    """Scale and shift the last layer so that features have mean 0 and deviation 1.

    Those of an untrained model hardly differ from picture to picture.
    """
    last = model.head[-1]
    assert isinstance(last, nn.Linear)
    features = model.encode_items(pixels)
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-12)
    last.bias.copy_((last.bias - mean) / deviation)
    last.weight.copy_(last.weight / deviation[:, None])


def _write(path: Path, **columns: pa.Array) -> None:
    pq.write_table(pa.table(columns), path)
