"""A tiny shop whose answer is known: half of the users like red garments, the other half blue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Catalog
from recjob.settings import Settings
from recjob.training.compute import Compute, choose_compute
from recjob.training.data import TrainingData, prepare_data

SIDE = 64
"""The smallest pictures that AlexNet takes."""
CATEGORIES = ("bottom", "shoes", "top")
PER_CATEGORY = 6
N_ITEMS = len(CATEGORIES) * PER_CATEGORY
N_USERS = 6


def is_red(item: Any) -> Any:
    """Items 0, 2, 4, ... are red."""
    return np.asarray(item) % 2 == 0


def colour_catalog(per_user: int = 16, quarantined: tuple[int, ...] = ()) -> Catalog:
    """Three categories of six items; each user likes `per_user` outfits of one colour.

    Every fourth outfit has two tops. User 0, 2, 4 like red, the others blue.
    """
    rng = np.random.default_rng(5)
    outfits: dict[tuple[int, ...], int] = {}
    pairs = []
    for user in range(N_USERS):
        for number in range(per_user):
            same = [
                np.array([item for item in range(N_ITEMS) if is_red(item) == (user % 2 == 0)])
                for _ in CATEGORIES
            ]
            items = [
                int(rng.choice(of[of // PER_CATEGORY == category]))
                for category, of in enumerate(same)
            ]
            if number % 4 == 0:
                tops = same[2][same[2] // PER_CATEGORY == 2]
                items.append(int(rng.choice(tops[tops != items[2]])))
            key = tuple(sorted(items))
            pairs.append((user, outfits.setdefault(key, len(outfits))))
    rows = np.full((len(outfits), 4), PADDING, np.int32)
    for key, row in outfits.items():
        rows[row, : len(key)] = key
    return Catalog(
        categories=CATEGORIES,
        item_ids=tuple(f"i{item:02d}" for item in range(N_ITEMS)),
        item_category=np.arange(N_ITEMS, dtype=np.int32) // PER_CATEGORY,
        item_image=tuple("" if item in quarantined else f"{item:064x}" for item in range(N_ITEMS)),
        item_available=np.ones(N_ITEMS, np.bool_),
        outfit_ids=tuple(f"o{row:03d}" for row in range(len(outfits))),
        outfit_items=rows,
        outfit_available=np.ones(len(outfits), np.bool_),
        user_ids=tuple(f"u{user}" for user in range(N_USERS)),
        positives=np.unique(np.array(pairs, np.int32), axis=0),
    )


def colour_pixels(n_items: int = N_ITEMS, side: int = SIDE) -> NDArray[np.uint8]:
    """(n_items, side, side, 3): on white a square, red or blue, of its own shade and size,
    dark on its left."""
    rng = np.random.default_rng(6)
    pixels = np.full((n_items, side, side, 3), 255, np.uint8)
    for item in range(n_items):
        margin = int(rng.integers(6, 20))
        colour = rng.integers(0, 90, 3)
        colour[0 if is_red(item) else 2] = rng.integers(180, 255)
        pixels[item, margin : side - margin, margin : side - margin] = colour
        pixels[item, margin : side - margin, margin : margin + 6] = colour // 3
    return pixels


def tiny_settings(**sections: dict[str, Any]) -> Settings:
    """Exact and repeatable: CPU, fp32, one thread; xs models from random weights."""
    common = {
        "size": "xs",
        "weights": "none",
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "dropout": 0.0,
    }
    values: dict[str, dict[str, Any]] = {
        "compute": {"device": "cpu", "precision": "fp32", "threads": 1},
        "images": {"size": SIDE},
        "autoencoder": {"epochs": 2, "batch_size": 8, "image_size": SIDE, "latent_dim": 8},
        "teacher": common,
        "student": common,
        "evaluation": {"negatives_per_positive": 4},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return Settings.model_validate(values)


def cpu() -> Compute:
    """fp32 on the CPU, one thread."""
    return choose_compute(tiny_settings().compute)


def colour_data(settings: Settings, catalog: Catalog | None = None) -> TrainingData:
    """The shop, split."""
    catalog = catalog or colour_catalog()
    rows = np.where(catalog.item_usable, np.arange(catalog.n_items), -1)
    return prepare_data(catalog, colour_pixels(catalog.n_items), rows, settings)
