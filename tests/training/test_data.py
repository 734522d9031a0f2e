"""Batches: every epoch anew, repeatable, and honest about what is a negative."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from recjob.catalog.catalog import PADDING
from recjob.catalog.split import Part
from recjob.errors import DataError
from recjob.training.data import Batch, BatchSource, TrainingData, mix_anew, unique_items
from tests.training.colours import (
    N_USERS,
    SIDE,
    colour_catalog,
    colour_data,
    colour_pixels,
    tiny_settings,
)


def source(
    data: TrainingData,
    batch_size: int = 16,
    per_positive: int = 1,
    hard: float = 0.0,
    mixes: int = 1,
    seed: int = 0,
) -> BatchSource:
    return BatchSource(data, batch_size, per_positive, hard, mixes, seed)


def item_set(row: Tensor) -> frozenset[int]:
    return frozenset(int(item) for item in row if item != PADDING)


def liked(data: TrainingData, *parts: Part) -> dict[int, set[frozenset[int]]]:
    """Item sets that each row of the model likes in these parts."""
    found: dict[int, set[frozenset[int]]] = {row: set() for row in range(data.users.size)}
    for (user, outfit), part in zip(data.catalog.positives, data.parts, strict=True):
        if part in parts and user in data.users:
            row = data.users.tolist().index(user)
            found[row].add(item_set(torch.from_numpy(data.catalog.outfit_items[outfit])))
    return found


def equal(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("users", "outfits", "negatives")
    )


def test_shapes(data: TrainingData) -> None:
    batches = source(data, batch_size=8, per_positive=2, hard=0.5, mixes=3)
    assert batches.steps == len(data.training_positives) // 8
    seen = list(batches.epoch(1))
    assert len(seen) == batches.steps
    for batch in seen:
        assert batch.users.shape == (8,)
        assert batch.outfits.shape == (8, 4)
        assert batch.negatives.shape == (8 * 2 * 3, 4)
        assert batch.valid is None or batch.valid.shape == (8, 48)
        for tensor in (batch.users, batch.outfits, batch.negatives):
            assert tensor.dtype == torch.int64


def test_a_batch_is_never_larger_than_what_there_is(data: TrainingData) -> None:
    batches = source(data, batch_size=10_000)
    assert batches.steps == 1
    [batch] = batches.epoch(1)
    assert len(batch.users) == len(data.training_positives)


def test_an_epoch_takes_training_positives_once(data: TrainingData) -> None:
    truth = liked(data, Part.TRAIN)
    pairs = [
        (int(user), item_set(outfit))
        for batch in source(data).epoch(1)
        for user, outfit in zip(batch.users, batch.outfits, strict=True)
    ]
    assert len(set(pairs)) == len(pairs)
    assert all(outfit in truth[user] for user, outfit in pairs)


def test_every_epoch_has_another_order_and_other_negatives(data: TrainingData) -> None:
    batches = source(data)
    first, second = list(batches.epoch(1)), list(batches.epoch(2))
    assert not torch.equal(first[0].outfits, second[0].outfits)
    everything = [
        Counter(item_set(row) for batch in epoch for row in batch.negatives)
        for epoch in (first, second)
    ]
    assert everything[0] != everything[1]


def test_the_same_seed_gives_the_same_batches(data: TrainingData) -> None:
    runs = [source(data, hard=0.5, mixes=2, seed=seed) for seed in (3, 3, 4)]
    for number in (1, 2):
        same, again, other = (list(run.epoch(number)) for run in runs)
        assert all(equal(a, b) for a, b in zip(same, again, strict=True))
        assert not any(equal(a, b) for a, b in zip(same, other, strict=True))


def test_a_batch_follows_from_its_epoch_and_step_alone(data: TrainingData) -> None:
    """So a training may go on anywhere, and whoever draws ahead changes nothing."""
    batches = source(data, hard=0.5, mixes=2)
    epoch = list(batches.epoch(3))
    rest = list(source(data, hard=0.5, mixes=2).epoch(3, first_step=2))
    assert [(batch.epoch, batch.step) for batch in epoch] == [
        (3, step) for step in range(1, batches.steps + 1)
    ]
    assert len(rest) == len(epoch) - 2
    assert all(equal(a, b) for a, b in zip(epoch[2:], rest, strict=True))


def test_random_negatives_are_like_their_positives_and_liked_by_nobody(data: TrainingData) -> None:
    category = torch.from_numpy(data.catalog.item_category)
    training = set().union(*liked(data, Part.TRAIN).values())
    for batch in source(data, per_positive=2).epoch(1):
        like = batch.outfits.repeat_interleave(2, dim=0)
        real = like != PADDING
        assert torch.equal(batch.negatives != PADDING, real)
        assert torch.equal(category[like[real]], category[batch.negatives[real]])
        assert not any(item_set(row) in training for row in batch.negatives)


def test_hard_negatives_are_training_positives_of_others(data: TrainingData) -> None:
    truth = liked(data, Part.TRAIN)
    training = set().union(*truth.values())
    for batch in source(data, hard=0.5).epoch(1):
        hard = [item_set(row) for row in batch.negatives[:8]]
        assert set(hard) <= training
        for user, outfit in zip(batch.users[:8].tolist(), hard, strict=True):
            assert outfit not in truth[user]
        assert not any(item_set(row) in training for row in batch.negatives[8:])


def test_hard_negatives_know_training_positives_only(data: TrainingData) -> None:
    """Else the negatives that are never drawn would tell what is in the test part."""
    held_out = liked(data, Part.TEST, Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT)
    batches = source(data, hard=1.0)
    drawn = {
        (int(user), item_set(row))
        for number in range(1, 31)
        for batch in batches.epoch(number)
        for user, row in zip(batch.users, batch.negatives, strict=True)
    }
    assert any(outfit in held_out[user] for user, outfit in drawn)


@pytest.mark.parametrize(("hard", "mixes"), [(0.5, 1), (1.0, 1), (0.0, 4), (0.5, 4)])
def test_valid_marks_exactly_what_the_user_likes(
    data: TrainingData, hard: float, mixes: int
) -> None:
    truth = liked(data, Part.TRAIN)
    masked = 0
    for batch in source(data, hard=hard, mixes=mixes).epoch(1):
        expected = torch.tensor(
            [
                [item_set(row) not in truth[user] for row in batch.negatives]
                for user in batch.users.tolist()
            ]
        )
        valid = torch.ones_like(expected) if batch.valid is None else batch.valid
        assert torch.equal(valid, expected)
        masked += int((~expected).sum())
    assert masked > 0


def test_an_outfit_under_two_ids_is_one_outfit() -> None:
    """A shared hard negative is masked for whoever likes its items under another id."""
    settings = tiny_settings(split={"validation": 0, "test": 1, "train": 1000})
    catalog = colour_catalog()
    copies = catalog.outfit_items[:, [1, 0, 2, 3]].copy()
    pairs = catalog.positives.copy()
    twin = pairs[:, 0] == 2  # the likes of user 2 get ids of their own
    pairs[twin, 1] += catalog.n_outfits
    catalog = dataclasses.replace(
        catalog,
        outfit_ids=(*catalog.outfit_ids, *(f"p{name}" for name in catalog.outfit_ids)),
        outfit_items=np.concatenate([catalog.outfit_items, copies]),
        outfit_available=np.tile(catalog.outfit_available, 2),
        positives=pairs[np.lexsort(pairs.T[::-1])],
    )
    data = colour_data(settings, catalog)
    test_valid_marks_exactly_what_the_user_likes(data, 1.0, 1)


def test_items_trade_places_within_their_category(data: TrainingData) -> None:
    [batch] = source(data, batch_size=10_000).epoch(1)
    outfits = batch.negatives.numpy().astype(np.int32)
    category = data.catalog.item_category
    mixed = mix_anew(outfits, category, np.random.default_rng(0))
    real = outfits != PADDING
    assert ((mixed != PADDING) == real).all()
    assert (category[mixed[real]] == category[outfits[real]]).all()
    assert set(mixed[real].tolist()) <= set(outfits[real].tolist())  # nothing else to encode
    assert (mixed != outfits).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("padded", [True, False])
def test_unique_items_map_back(padded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randint(0, 30, (rows, 4), generator=generator) for rows in (5, 7, 1)]
    if padded:
        for outfits in sets:
            outfits[:, 2:] = torch.where(torch.rand(len(outfits), 2) < 0.5, PADDING, outfits[:, 2:])
        sets[1][0, 1] = PADDING  # erased: padding between items
    unique = unique_items(*sets)
    assert unique.items.tolist() == sorted(
        {int(item) for outfits in sets for item in outfits.ravel() if item != PADDING}
    )
    for outfits, place, mask in zip(sets, unique.places, unique.masks, strict=True):
        assert torch.equal(mask, outfits != PADDING)
        found = torch.from_numpy(unique.items)[place]
        assert torch.equal(found[mask], outfits[mask])
        assert bool((place >= 0).all())


def test_pictures_of_items() -> None:
    """Rows of the pixels are looked up, also where they are in another order than the items."""
    settings = tiny_settings()
    pixels = colour_pixels()
    data = colour_data(settings)
    rows = np.random.default_rng(0).permutation(len(pixels))
    shuffled = dataclasses.replace(data, pixels=pixels[np.argsort(rows)], picture_rows=rows)
    items = np.array([4, 0, 11])
    expected = torch.from_numpy(pixels[items].transpose(0, 3, 1, 2).copy())
    assert torch.equal(shuffled.gather(items), expected)
    assert shuffled.gather(items).shape == (3, 3, SIDE, SIDE)


def test_outfits_in_quarantine_do_not_train() -> None:
    data = colour_data(tiny_settings(), colour_catalog(quarantined=(0, 7)))
    used = {
        int(item)
        for batch in source(data, hard=0.5, mixes=2).epoch(1)
        for item in torch.cat([batch.outfits, batch.negatives]).ravel()
    }
    assert not used & {0, 7}


def test_users_with_too_few_positives_have_no_row() -> None:
    catalog = colour_catalog()
    few = (catalog.positives[:, 0] != 3) | (np.arange(len(catalog.positives)) % 8 == 0)
    data = colour_data(
        tiny_settings(), dataclasses.replace(catalog, positives=catalog.positives[few])
    )
    assert data.users.tolist() == [0, 1, 2, 4, 5]
    assert data.model_row.tolist() == [0, 1, 2, -1, 3, 4]
    assert 3 not in data.training_positives[:, 0]
    assert {int(row) for batch in source(data).epoch(1) for row in batch.users} <= set(range(5))


@pytest.mark.parametrize("kept", [0, 1])
def test_nothing_to_learn_from(kept: int) -> None:
    catalog = colour_catalog()
    positives = catalog.positives[catalog.positives[:, 0] < kept]
    with pytest.raises(DataError, match=rf"{kept} users have 5 or more .* training needs 2; .*"):
        colour_data(tiny_settings(), dataclasses.replace(catalog, positives=positives))


def test_every_user_of_the_shop_trains(data: TrainingData) -> None:
    assert data.users.tolist() == list(range(N_USERS))


def test_a_recombined_outfit_never_wears_an_item_twice() -> None:
    outfits = np.array([[0, 1, 4], [1, 2, 5], [2, 0, 6], [3, -1, 7]] * 50, np.int32)
    category = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)
    mixed = mix_anew(outfits, category, np.random.default_rng(1))
    assert not np.array_equal(mixed, outfits)
    for row in mixed.tolist():
        worn = [item for item in row if item >= 0]
        assert len(set(worn)) == len(worn)
