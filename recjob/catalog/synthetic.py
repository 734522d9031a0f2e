"""The demo's catalog: drawn garments, and users whose positives follow from a hidden taste.

A user's positives are the best of many random outfits under their true utility and some noise. So
what a model has to learn is in the pictures, and what it learned can be held against the truth.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Int32Array
from recjob.catalog.garments.canvas import PATTERNS
from recjob.catalog.garments.items import (
    CATEGORIES,
    COLOURS,
    KIND_NAMES,
    OUTER,
    choose_items,
    picture,
)
from recjob.catalog.table_columns import ITEM_SEPARATOR
from recjob.catalog.taste import Taste, draw_taste
from recjob.settings import DemoSettings

_MAX_ITEMS = 4
# A user likes this share of the random outfits they look at; how many varies around the mean.
_LIKED_SHARE = 0.03
_SPREAD = 0.5
_NEWCOMER_OUTFITS = (1, 4)
# Moods: the true utility of random outfits varies by about 0.4.
_NOISE = 0.1
_UNAVAILABLE = 0.03
_FIRST_DAY = np.datetime64("2026-01-01T00:00:00", "s")
_SECONDS = 120 * 24 * 3600
# Users are simulated in blocks, which bounds the memory for what they look at.
_BLOCK = 128
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Simulation:
    """A shop, what its users liked, and the truth behind it."""

    taste: Taste
    item_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    """Users, then newcomers (the demo's cold starters), then strangers."""
    n_users: int
    n_newcomers: int
    outfit_ids: tuple[str, ...]
    outfit_items: Int32Array
    """(n_outfits, 4) item indices, padded; distinct as sets, each liked by someone."""
    positives: Int32Array
    """(n_positives, 2) user, outfit; users and newcomers."""

    def utility(self, users: Int32Array, outfits: Int32Array) -> NDArray[np.float32]:
        """(n,) how much `users` (n,) truly like `outfits` (n, k) of item indices, padded."""
        return self.taste.utility(users, outfits)


def simulate(settings: DemoSettings, seed: int) -> Simulation:
    """The demo's shop; the same for the same settings and seed."""
    items = choose_items(settings.items, seed)
    rng = np.random.default_rng([seed, 2])
    n_liking = settings.users + settings.cold_starters
    taste = draw_taste(items, n_liking + settings.strangers, rng)
    mean = settings.outfits_per_user
    spread = round(_SPREAD * mean)
    counts = rng.integers(mean - spread, mean + spread + 1, n_liking)
    low, high = _NEWCOMER_OUTFITS
    counts[settings.users :] = rng.integers(low, high + 1, settings.cold_starters)
    layered = rng.binomial(counts, settings.two_tops)
    users, outfits = [], []
    for start in range(0, n_liking, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, n_liking), dtype=np.int32)
        # Outfits with two tops are ranked among themselves, so that their share comes out right.
        for wanted, two_tops in ((counts - layered, False), (layered, True)):
            looked_at = round(mean / _LIKED_SHARE * wanted.sum() / counts.sum())
            looking = np.repeat(block, looked_at)
            seen = _random_outfits(taste, looking.size, two_tops, rng)
            pleasure = taste.utility(looking, seen) + rng.normal(0, _NOISE, looking.size)
            rank = (-pleasure.reshape(block.size, looked_at)).argsort(axis=1).argsort(axis=1)
            liked = (rank < wanted[block, None]).ravel()
            users.append(looking[liked])
            outfits.append(seen[liked])
    unique, index = np.unique(np.concatenate(outfits), axis=0, return_inverse=True)
    # The ids of outfits are in no order that tells who likes them.
    name = rng.permutation(len(unique)).astype(np.int32)
    outfit_items = np.empty_like(unique)
    outfit_items[name] = unique
    pairs = np.stack([np.concatenate(users), name[index.reshape(-1)]], axis=1)
    return Simulation(
        taste=taste,
        item_ids=_ids("item", settings.items),
        user_ids=(
            *_ids("user", settings.users),
            *_ids("newcomer", settings.cold_starters),
            *_ids("stranger", settings.strangers),
        ),
        n_users=settings.users,
        n_newcomers=settings.cold_starters,
        outfit_ids=_ids("outfit", len(unique)),
        outfit_items=outfit_items,
        positives=np.unique(pairs, axis=0),
    )


def write_demo(folder: Path, cold_folder: Path, settings: DemoSettings, seed: int) -> None:
    """Write two import folders: the shop with its users and strangers, and the newcomers.

    `cold_folder` has no items, as it uses those of `folder`; it is not written where the settings
    ask for no cold starters.
    """
    world = simulate(settings, seed)
    rng = np.random.default_rng([seed, 3])
    available = rng.random(settings.items) >= _UNAVAILABLE
    items = world.taste.items
    names = [f"images/{item}.jpg" for item in world.item_ids]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    def draw(item: int) -> None:
        image = picture(items, item, settings.image_size)
        # 4:4:4 keeps the colours of thin stripes.
        image.save(folder / names[item], quality=_JPEG_QUALITY, subsampling=0)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(settings.items)))
    rows = zip(
        world.item_ids,
        (CATEGORIES[number] for number in items.category),
        names,
        np.where(available, "true", "false"),
        (KIND_NAMES[number] for number in items.kind),
        (COLOURS[number] for number in items.colour),
        (PATTERNS[number] for number in items.pattern),
        strict=True,
    )
    _write(
        folder / "items.csv",
        ["item_id", "category", "image", "available", "kind", "colour", "pattern"],
        rows,
    )
    seconds = rng.integers(0, _SECONDS, len(world.positives))
    newcomer = world.positives[:, 0] >= world.n_users
    _write_likes(folder, world, world.positives[~newcomer], seconds[~newcomer])
    others = world.user_ids[: world.n_users] + world.user_ids[world.n_users + world.n_newcomers :]
    _write(folder / "users.csv", ["user_id"], ((user,) for user in others))
    if newcomer.any():
        cold_folder.mkdir(parents=True, exist_ok=True)
        _write_likes(cold_folder, world, world.positives[newcomer], seconds[newcomer])


def _random_outfits(
    taste: Taste, count: int, two_tops: bool, rng: np.random.Generator
) -> Int32Array:
    """(count, 4) a top, a bottom and shoes; with `two_tops` a jacket or coat over another top."""
    category, outer = taste.items.category, OUTER[taste.items.kind]
    top = category == CATEGORIES.index("top")

    def pick(allowed: NDArray[np.bool_]) -> Int32Array:
        return rng.choice(np.flatnonzero(allowed), count).astype(np.int32)

    columns = [
        pick(top & ~outer) if two_tops else pick(top),
        pick(top & outer) if two_tops else np.full(count, PADDING, dtype=np.int32),
        pick(category == CATEGORIES.index("bottom")),
        pick(category == CATEGORIES.index("shoes")),
    ]
    outfits = np.stack(columns, axis=1)
    # By category, then by index, padding last: one order for one set, which tells nothing.
    order = np.where(outfits == PADDING, len(CATEGORIES), category[outfits]) * len(category)
    order = (order + outfits).argsort(axis=1, kind="stable")
    return np.take_along_axis(outfits, order, axis=1)


def _write_likes(
    folder: Path, world: Simulation, positives: Int32Array, seconds: NDArray[np.int64]
) -> None:
    outfits = np.unique(positives[:, 1])
    rows = (
        (
            world.outfit_ids[outfit],
            ITEM_SEPARATOR.join(
                world.item_ids[item] for item in world.outfit_items[outfit] if item != PADDING
            ),
        )
        for outfit in outfits
    )
    _write(folder / "outfits.csv", ["outfit_id", "item_ids"], rows)
    likes = (
        (world.user_ids[user], world.outfit_ids[outfit], f"{_FIRST_DAY + second}Z")
        for (user, outfit), second in zip(positives, seconds, strict=True)
    )
    _write(folder / "interactions.csv", ["user_id", "outfit_id", "at"], likes)


def _write(path: Path, header: list[str], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _ids(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"{kind}-{number:0{max(3, len(str(count)))}d}" for number in range(1, count + 1))
