"""The autoencoder learns, and its neighbours are the nearest of the same category."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recjob.catalog.catalog import PADDING, Float32Array
from recjob.errors import DataError, RecjobError
from recjob.training import autoencoder
from recjob.training.autoencoder import (
    TrainedAutoencoder,
    encode_latents,
    latent_neighbours,
    reconstruction_loss,
    train_autoencoder,
)
from tests.catalog.shops import random_shop
from tests.training.colours import (
    N_ITEMS,
    PER_CATEGORY,
    colour_catalog,
    colour_pixels,
    cpu,
    tiny_settings,
)

ROWS = np.arange(N_ITEMS)
SETTINGS = tiny_settings(autoencoder={"epochs": 16, "batch_size": 9, "chroma_weight": 0})


@pytest.fixture(scope="module")
def trained() -> TrainedAutoencoder:
    return train_autoencoder(colour_catalog(), colour_pixels(), ROWS, SETTINGS)


def test_the_error_falls(trained: TrainedAutoencoder) -> None:
    assert len(trained.losses) == 16
    assert trained.losses[-1] < 0.8 * trained.losses[0]
    assert max(trained.losses) == trained.losses[0]
    assert not trained.model.training


def test_the_same_seed_gives_the_same_autoencoder() -> None:
    once, again, other = (
        train_autoencoder(
            colour_catalog(),
            colour_pixels(),
            ROWS,
            tiny_settings(autoencoder={"epochs": 1}).model_copy(update={"seed": seed}),
        )
        for seed in (0, 0, 1)
    )
    assert once.losses == again.losses != other.losses
    states = once.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_progress() -> None:
    told: list[tuple[int, int]] = []
    settings = tiny_settings(autoencoder={"epochs": 2, "batch_size": 6})
    train_autoencoder(
        colour_catalog(),
        colour_pixels(),
        ROWS,
        settings,
        lambda done, total, note: told.append((done, total)),
    )
    assert told == [(step, 6) for step in range(1, 7)]


def test_latents_do_not_depend_on_the_batch(trained: TrainedAutoencoder) -> None:
    catalog = colour_catalog(quarantined=(2, 5))
    rows = np.where(catalog.item_usable, ROWS, PADDING)
    one, many = (
        encode_latents(trained.model, catalog, colour_pixels(), rows, batch_size, cpu())
        for batch_size in (1, 100)
    )
    assert one.shape == (N_ITEMS, 8)
    np.testing.assert_allclose(one, many, atol=1e-4)
    assert np.flatnonzero(~one.any(axis=1)).tolist() == [2, 5]


def test_larger_pictures_are_made_smaller(trained: TrainedAutoencoder) -> None:
    """Twice the side by repeating each pixel: the mean of each square is the picture itself."""
    catalog = colour_catalog()
    pixels = colour_pixels()
    doubled = pixels.repeat(2, axis=1).repeat(2, axis=2)
    plain, shrunk = (
        encode_latents(trained.model, catalog, seen, ROWS, 100, cpu()) for seen in (pixels, doubled)
    )
    moved = np.abs(shrunk - plain).max()
    assert moved < 0.1 * np.abs(plain - plain.mean(axis=0)).max()


def brute_force(
    latents: Float32Array, usable: list[bool], category: list[int], k: int
) -> Float32Array:
    """Neighbours by sorting every distance in float64."""
    rows = []
    for item, own in enumerate(category):
        others = [
            other
            for other, theirs in enumerate(category)
            if other != item and theirs == own and usable[other] and usable[item]
        ]
        difference = latents[others].astype(np.float64) - latents[item].astype(np.float64)
        order = np.argsort((difference**2).sum(axis=1))[:k]
        rows.append(np.array([others[place] for place in order] + [PADDING] * (k - len(order))))
    return np.array(rows)


@pytest.mark.parametrize("block", [4, 1024])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_neighbours_are_those_of_brute_force(
    block: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "NEIGHBOUR_BLOCK", block)
    rng = np.random.default_rng(1)
    catalog = random_shop(rng, n_items=40, quarantined=7)
    latents = rng.normal(size=(40, 6)).astype(np.float32)
    found = latent_neighbours(latents, catalog, count)
    usable = catalog.item_usable.tolist()
    expected = brute_force(latents, usable, catalog.item_category.tolist(), count)
    assert found.tolist() == expected.tolist()
    bad = np.flatnonzero(~catalog.item_usable)
    assert not np.isin(found, bad).any()
    assert (found[bad] == PADDING).all()
    assert not (found == np.arange(40)[:, None]).any()


def test_equal_pictures_are_neighbours_but_no_item_is_its_own() -> None:
    catalog = colour_catalog()
    latents = np.zeros((N_ITEMS, 3), np.float32)
    found = latent_neighbours(latents, catalog, PER_CATEGORY)
    assert (found[:, -1] == PADDING).all()
    for item, row in enumerate(found[:, :-1].tolist()):
        category = item // PER_CATEGORY
        members = set(range(category * PER_CATEGORY, (category + 1) * PER_CATEGORY))
        assert set(row) == members - {item}


def test_an_item_alone_in_its_category_has_none() -> None:
    catalog = dataclasses.replace(
        colour_catalog(), item_category=np.array([0, 1] + [2] * (N_ITEMS - 2), np.int32)
    )
    found = latent_neighbours(np.random.rand(N_ITEMS, 3).astype(np.float32), catalog, 3)
    assert (found[:2] == PADDING).all()
    assert (found[2:] != PADDING).all()


def test_the_loss_counts_colour_differences() -> None:
    """Off by 0.1 in red alone: R - G is off by 0.1 too, G - B is right."""
    truth = torch.full((2, 3, 4, 4), 0.5)
    brighter = truth + 0.1
    redder = truth.clone()
    redder[:, 0] += 0.1
    assert float(reconstruction_loss(brighter, truth, 4.0)) == pytest.approx(0.01)
    assert float(reconstruction_loss(redder, truth, 4.0)) == pytest.approx(0.01 / 3 + 4 * 0.01 / 2)
    assert float(reconstruction_loss(redder, truth, 0.0)) == pytest.approx(0.01 / 3)


def test_no_picture_to_learn_from() -> None:
    catalog = colour_catalog(quarantined=tuple(range(N_ITEMS)))
    with pytest.raises(DataError, match="no item with a usable picture; import pictures first"):
        train_autoencoder(catalog, colour_pixels(), np.full(N_ITEMS, PADDING), SETTINGS)


def test_a_training_that_diverges_stops() -> None:
    settings = tiny_settings(autoencoder={"learning_rate": 1e30, "warmup": 0.5, "epochs": 4})
    with pytest.raises(RecjobError, match=r"autoencoder, epoch \d, step \d: the loss is nan"):
        train_autoencoder(colour_catalog(), colour_pixels(), ROWS, settings)
