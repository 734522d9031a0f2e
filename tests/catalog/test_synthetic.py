"""The demo's shop: what it writes can be imported, and its truth is learnable but hidden."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.catalog.catalog import Catalog
from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.images import PackedImages
from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.catalog.synthetic import Simulation, simulate, write_demo
from recjob.catalog.tables import FolderTables, read_folder
from recjob.settings import CatalogSettings, DemoSettings, ImageSettings, SplitSettings

SMALL = DemoSettings(
    items=120, users=20, cold_starters=6, strangers=2, outfits_per_user=20, image_size=64
)


@cache
def world() -> Simulation:
    """The shop of the default settings; no pictures are drawn."""
    return simulate(DemoSettings(), seed=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("demo")
    write_demo(base / "shop", base / "cold", SMALL, seed=1)
    return base / "shop", base / "cold"


def as_catalog(world: Simulation) -> Catalog:
    """The catalog with the simulation's own indices: users and newcomers, all items pictured."""
    return Catalog(
        categories=("top", "bottom", "shoes"),
        item_ids=world.item_ids,
        item_category=world.taste.items.category,
        item_image=("image",) * len(world.item_ids),
        item_available=np.ones(len(world.item_ids), dtype=np.bool_),
        outfit_ids=world.outfit_ids,
        outfit_items=world.outfit_items,
        outfit_available=np.ones(len(world.outfit_ids), dtype=np.bool_),
        user_ids=world.user_ids,
        positives=world.positives[world.positives[:, 0] < world.n_users],
    )


def mean_auc(lists: EvaluationLists, scores: NDArray[np.float64]) -> float:
    """Mean over users of how often the positive (first) beats its negatives; ties count half."""
    wins = (scores[:, :1] > scores[:, 1:]) + 0.5 * (scores[:, :1] == scores[:, 1:])
    row = wins.mean(axis=1)
    return float(np.mean([row[lists.user == user].mean() for user in np.unique(lists.user)]))


def test_popularity_is_mediocre_and_the_truth_is_not() -> None:
    catalog = as_catalog(world())
    parts = split_parts(catalog, SplitSettings())
    lists = evaluation_lists(catalog, parts, Part.TEST, 10, seed=0)
    n, k, m = lists.items.shape
    assert n > 900

    train = catalog.outfit_items[part_positives(catalog, parts, Part.TRAIN)[:, 1]]
    counts = np.bincount(train[train >= 0], minlength=catalog.n_items)
    popularity = np.where(lists.items >= 0, counts[lists.items], 0).sum(axis=-1)
    assert 0.6 < mean_auc(lists, popularity.astype(float)) < 0.72

    users = np.repeat(lists.user, k)
    truth = world().utility(users, lists.items.reshape(-1, m)).reshape(n, k)
    assert mean_auc(lists, truth.astype(float)) > 0.95
    # What a user likes is not what another likes.
    others = np.roll(np.arange(world().n_users, dtype=np.int32), 1)[users]
    wrong = world().utility(others, lists.items.reshape(-1, m)).reshape(n, k)
    assert mean_auc(lists, wrong.astype(float)) < 0.85


def test_shape_of_the_shop() -> None:
    shop, settings = world(), DemoSettings()
    assert len(shop.item_ids) == settings.items
    assert len(shop.user_ids) == 120 + 12 + 4
    counts = np.bincount(shop.positives[:, 0], minlength=136)
    assert 55 < counts[:120].mean() < 65
    assert counts[:120].min() >= 30
    assert counts[:120].std() > 10
    assert set(counts[120:132].tolist()) <= {1, 2, 3, 4}
    assert counts[120:132].min() >= 1
    assert (counts[132:] == 0).all()
    assert np.unique(shop.positives[:, 1]).size == len(shop.outfit_ids)


def test_outfits() -> None:
    shop = world()
    category = np.where(shop.outfit_items >= 0, shop.taste.items.category[shop.outfit_items], -1)
    tops = (category == 2).sum(axis=1)
    assert set(tops.tolist()) == {1, 2}
    assert 0.25 < (tops == 2).mean() < 0.35
    assert ((category == 0).sum(axis=1) == 1).all()
    assert ((category == 1).sum(axis=1) == 1).all()
    assert np.unique(shop.outfit_items, axis=0).shape == shop.outfit_items.shape


def test_nothing_but_the_liking_tells_taste() -> None:
    """The number of an outfit, and the order of items in it, say nothing about who likes it."""
    shop = world()
    user, outfit = shop.positives.T
    assert abs(np.corrcoef(user, outfit)[0, 1]) < 0.05
    items = shop.taste.items
    order = np.where(shop.outfit_items >= 0, items.category[shop.outfit_items] * 10_000, 10**6)
    assert (np.diff(order + shop.outfit_items, axis=1) != 0).all()
    assert (np.diff(order + shop.outfit_items, axis=1)[shop.outfit_items[:, 1:] >= 0] > 0).all()


def test_discord() -> None:
    """Two inner tops, or two patterned items, are liked less than one of them."""
    taste = world().taste
    rng = np.random.default_rng(0)
    users = rng.integers(0, 100, 4000).astype(np.int32)
    outfits = world().outfit_items[rng.integers(0, len(world().outfit_items), 4000)]
    assert (taste.discord(outfits) >= 0).all()
    shuffled = rng.permuted(outfits, axis=1)
    np.testing.assert_allclose(
        taste.utility(users, outfits), taste.utility(users, shuffled), atol=1e-5
    )
    alone = outfits[:, :1]
    assert (taste.discord(alone) == 0).all()


def test_the_seed_decides() -> None:
    one, same, other = (simulate(SMALL, seed) for seed in (3, 3, 4))
    assert np.array_equal(one.outfit_items, same.outfit_items)
    assert np.array_equal(one.positives, same.positives)
    assert not np.array_equal(one.taste.items.colour, other.taste.items.colour)


def read(folders: tuple[Path, Path]) -> tuple[FolderTables, FolderTables]:
    settings = CatalogSettings(categories=("top", "bottom", "shoes"))
    shop = read_folder(folders[0], settings)
    return shop, read_folder(folders[1], settings, known_items=shop.items["item_id"].to_pylist())


def test_the_folders_can_be_imported(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shop, cold = read(folders)
    truth = simulate(SMALL, seed=1)
    assert shop.items["item_id"].to_pylist() == list(truth.item_ids)
    assert shop.users["user_id"].to_pylist() == [*truth.user_ids[:20], *truth.user_ids[26:]]
    assert set(cold.interactions["user_id"].to_pylist()) == set(truth.user_ids[20:26])
    assert cold.items.num_rows == cold.users.num_rows == 0
    assert shop.interactions.num_rows + cold.interactions.num_rows == len(truth.positives)
    assert shop.interactions["at"].null_count == 0
    assert 0 < shop.items["available"].to_pylist().count(False) < 20
    attributes = [json.loads(text) for text in shop.items["attributes"].to_pylist()]
    assert all(set(each) == {"kind", "colour", "pattern"} for each in attributes)
    assert len({each["kind"] for each in attributes}) == 17

    store = PackedImages.open(tmp_path, 64)
    images = shop.items["image"].to_pylist()
    report = store.add(FolderPictures(folders[0]), images, ImageSettings(size=64))
    assert report.bad == ()
    assert len(set(report.hashes)) == SMALL.items
    catalog = to_catalog(shop, report.hashes)
    named = {
        (catalog.user_ids[user], frozenset(catalog.item_ids[i] for i in items if i >= 0))
        for user, items in zip(
            catalog.positives[:, 0], catalog.outfit_items[catalog.positives[:, 1]], strict=True
        )
    }
    assert named == {
        (truth.user_ids[user], frozenset(truth.item_ids[i] for i in items if i >= 0))
        for user, items in zip(
            truth.positives[:, 0], truth.outfit_items[truth.positives[:, 1]], strict=True
        )
        if user < 20
    }


def test_pictures_show_their_colour_on_white(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The mean colour of what is not white is near the colour that the truth says."""
    shop, _ = read(folders)
    truth = simulate(SMALL, seed=1)
    store = PackedImages.open(tmp_path, 64)
    report = store.add(
        FolderPictures(folders[0]), shop.items["image"].to_pylist(), ImageSettings(size=64)
    )
    pixels = store.pixels[store.rows(report.hashes)].astype(float)
    assert (pixels[:, 0].mean(axis=(1, 2)) > 250).all()  # the upper rim
    cloth = pixels.min(axis=-1) < 245
    assert (cloth.mean(axis=(1, 2)) > 0.08).all()
    shown = np.array(
        [square[mask].mean(axis=0) for square, mask in zip(pixels, cloth, strict=True)]
    )
    plain = truth.taste.items.pattern == 0
    named = truth.taste.items.rgb[:, 0].astype(float)
    away = np.abs(shown - named).mean(axis=1)
    shuffled = np.abs(shown - np.roll(named, 1, axis=0)).mean(axis=1)
    assert np.median(away[plain]) < 25
    assert np.median(away[plain]) < 0.5 * np.median(shuffled[plain])


def test_drawing_is_the_same_every_time(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_demo(tmp_path / "shop", tmp_path / "cold", SMALL, seed=1)
    for name in (
        "items.csv",
        "outfits.csv",
        "interactions.csv",
        "users.csv",
        "images/item-007.jpg",
    ):
        digests = [
            hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for folder in (folders[0], tmp_path / "shop")
        ]
        assert digests[0] == digests[1]


def test_without_cold_starters_and_strangers(tmp_path: Path) -> None:
    settings = DemoSettings(
        items=60, users=4, cold_starters=0, strangers=0, outfits_per_user=8, two_tops=0
    )
    write_demo(tmp_path / "shop", tmp_path / "cold", settings, seed=0)
    assert not (tmp_path / "cold").exists()
    assert read_folder(tmp_path / "shop", CatalogSettings()).users.num_rows == 4
