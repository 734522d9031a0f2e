"""Evaluation lists against what a plain loop over sets says."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.catalog import Catalog, Int8Array
from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.given_negatives import GivenNegatives
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.settings import SplitSettings
from tests.catalog.shops import item_set, liked_sets, place, random_shop

SPLIT = SplitSettings(train=2, validation=1, test=2)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_evaluation_lists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, quarantined=3)
    liked = liked_sets(catalog)
    parts = split_parts(catalog, SPLIT)
    usable = part_positives(catalog, parts, Part.TEST)
    lists = evaluation_lists(catalog, parts, Part.TEST, 4, seed=5)
    again = evaluation_lists(catalog, parts, Part.TEST, 4, seed=5)
    assert np.array_equal(lists.items, again.items)
    assert lists.items.shape == (len(lists.user), 5, catalog.max_items)
    assert len(lists.user) + lists.left_out == (parts == Part.TEST).sum()
    expected = {(int(u), item_set(catalog.outfit_items[o])) for u, o in usable}
    assert {(int(u), item_set(row[0])) for u, row in zip(lists.user, lists.items, strict=True)} <= (
        expected
    )
    used = set(catalog.outfit_items[usable[:, 1]].ravel().tolist())
    for user, row in zip(lists.user, lists.items, strict=True):
        for negative in row[1:]:
            assert item_set(negative) not in liked[int(user)]
            assert set(negative.tolist()) <= used | {-1}
            categories = [
                sorted(catalog.item_category[outfit[outfit >= 0]].tolist())
                for outfit in (row[0], negative)
            ]
            assert categories[0] == categories[1]


def test_evaluation_of_some_users_and_some_positives() -> None:
    catalog = random_shop(np.random.default_rng(0), n_items=90, n_positives=300)
    parts = split_parts(catalog, SPLIT)
    some = np.array([1, 3], dtype=np.int32)
    lists = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0, users=some)
    everyone = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0)
    assert set(lists.user.tolist()) == {1, 3}
    assert len(lists.user) == np.isin(everyone.user, some).sum()
    few = evaluation_lists(catalog, parts, Part.TEST, 3, seed=0, max_positives=10)
    assert len(few.user) == 10
    other = evaluation_lists(catalog, parts, Part.TEST, 3, seed=1, max_positives=10)
    assert not np.array_equal(few.items, other.items)
    validation = evaluation_lists(catalog, parts, Part.VALIDATION_STUDENT, 3, seed=0)
    assert len(validation.user) == (parts == Part.VALIDATION_STUDENT).sum()


def test_positives_without_possible_negatives_are_left_out() -> None:
    """The part's items make only the four outfits that the user likes."""
    outfits = [[a, b] for a in (0, 1) for b in (2, 3)]
    catalog = place(outfits, [0, 0, 1, 1], [[0, 1, 2, 3]])
    parts = np.full(4, Part.TEST, dtype=np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 2, seed=0)
    assert lists.items.shape == (0, 3, 2)
    assert lists.left_out == 4


def test_a_part_without_positives() -> None:
    catalog = random_shop(np.random.default_rng(0))
    parts = np.zeros(len(catalog.positives), dtype=np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 10, seed=0)
    assert lists.items.shape == (0, 11, catalog.max_items)


def by_name(catalog: Catalog, lists: EvaluationLists) -> dict[tuple[str, frozenset[str]], object]:
    """The negatives of each list by the ids of its user and its positive's items."""

    def names(row: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> frozenset[str]:
        return frozenset(catalog.item_ids[item] for item in row if item >= 0)

    return {
        (catalog.user_ids[user], names(rows[0])): [names(row) for row in rows[1:]]
        for user, rows in zip(lists.user, lists.items, strict=True)
    }


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([0.3, 0.5, 1.0]))
def test_hard_negatives_are_liked_by_others_in_the_same_part(seed: int, share: float) -> None:
    catalog = random_shop(np.random.default_rng(seed), quarantined=3)
    parts, liked = split_parts(catalog, SPLIT), liked_sets(catalog)
    tested = part_positives(catalog, parts, Part.TEST)
    sets = {item_set(catalog.outfit_items[outfit]) for outfit in tested[:, 1]}
    lists = evaluation_lists(catalog, parts, Part.TEST, 10, 0, hard_share=share)
    assert len(lists.user) + lists.left_out == (parts == Part.TEST).sum()
    for user, rows in zip(lists.user, lists.items, strict=True):
        hard = [item_set(row) in sets for row in rows[1:]]
        assert hard == [number >= 10 - round(10 * share) for number in range(10)]
        assert not any(item_set(row) in liked[int(user)] for row in rows[1:])


def test_a_list_does_not_depend_on_the_others() -> None:
    """Of some users, or in another order of everything: the same ids stand in the same lists."""
    rng = np.random.default_rng(0)
    catalog = random_shop(rng, n_items=60, n_positives=200)
    parts = split_parts(catalog, SPLIT)
    some = np.array([1, 3, 4], np.int32)
    for share in (0.0, 0.5):
        alone = evaluation_lists(catalog, parts, Part.TEST, 6, 7, users=some, hard_share=share)
        everyone = evaluation_lists(catalog, parts, Part.TEST, 6, 7, hard_share=share)
        assert by_name(catalog, alone).items() <= by_name(catalog, everyone).items()
        assert 0 < len(alone.user) < len(everyone.user)
    order = rng.permutation(catalog.n_outfits)
    place_of = np.argsort(order)
    positives = np.stack([catalog.positives[:, 0], place_of[catalog.positives[:, 1]]], axis=1)
    ranks = np.lexsort((positives[:, 1], positives[:, 0]))
    renamed = dataclasses.replace(
        catalog,
        outfit_items=np.pad(catalog.outfit_items[order], ((0, 0), (0, 1)), constant_values=-1),
        positives=positives[ranks].astype(np.int32),
    )
    lists = evaluation_lists(renamed, parts[ranks], Part.TEST, 6, 7)
    assert by_name(renamed, lists) == by_name(
        catalog, evaluation_lists(catalog, parts, Part.TEST, 6, 7)
    )


def test_negatives_are_uniform() -> None:
    """One top of five, one bottom of four, less what is liked: 12 outfits, equally often."""
    outfits = [[top, 5 + bottom] for top in range(5) for bottom in range(4)]
    catalog = place(outfits, [0] * 5 + [1] * 4, [[0, 19], [5, 10, 15, 1, 2, 3]])
    parts = np.full(len(catalog.positives), Part.TEST, np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 20_000, 3, users=np.array([0], np.int32))
    _, counts = np.unique(lists.items[:, 1:].reshape(-1, 2), axis=0, return_counts=True)
    # Positives of the part are no random negatives: 20 outfits less 8.
    assert len(counts) == 12
    assert abs(counts - 40_000 / 12).max() < 5 * np.sqrt(40_000 / 12)


def test_a_user_who_likes_everything_has_no_hard_list() -> None:
    catalog = place([[0, 2], [0, 3], [1, 2]], [0, 0, 1, 1], [[0, 1, 2], [0]])
    parts = np.full(4, Part.TEST, np.int8)
    lists = evaluation_lists(catalog, parts, Part.TEST, 4, 0, hard_share=0.5)
    assert lists.user.tolist() == [1]
    assert lists.left_out == 3
    assert evaluation_lists(catalog, parts, Part.TEST, 4, 0).left_out == 0


def given_of(catalog: Catalog, rows: list[tuple[int, bool, list[int]]]) -> GivenNegatives:
    """Rows of: index of a positive, whether hard, items."""
    positive, hard, items = zip(*rows, strict=True)
    wide = [row + [-1] * (catalog.max_items + 1 - len(row)) for row in items]
    return GivenNegatives(
        np.array(positive, np.int64), np.array(hard, np.bool_), np.array(wide, np.int32)
    )


def test_negatives_of_the_data_come_first_and_what_they_lack_is_drawn() -> None:
    catalog = random_shop(np.random.default_rng(5), n_items=40, n_positives=100, quarantined=2)
    bad = int(np.flatnonzero(~catalog.item_usable)[0])
    good = [int(item) for item in np.flatnonzero(catalog.item_usable)]
    parts = np.full(len(catalog.positives), Part.TEST, np.int8)
    (first, second), *_ = np.array_split(
        np.flatnonzero(catalog.outfit_usable[catalog.positives[:, 1]]), [2]
    )
    liked = [i for i in catalog.outfit_items[catalog.positives[first, 1]].tolist() if i >= 0]
    given = given_of(
        catalog,
        [
            (first, False, good[:3]),
            (first, True, good[3:6]),
            (first, False, liked[::-1]),
            (first, False, [bad]),
            (first, False, good[6:11]),
            (first, False, good[11:13]),
            (second, True, good[:1]),
        ],
    )
    drawn = evaluation_lists(catalog, parts, Part.TEST, 3, 1, hard_share=1 / 3)
    lists = evaluation_lists(catalog, parts, Part.TEST, 3, 1, hard_share=1 / 3, given=given)
    assert lists.items.shape[2] == catalog.max_items + 1
    sets = [item_set(row) for row in lists.items[0]]
    assert sets[1:] == [frozenset(good[:3]), frozenset(good[6:11]), frozenset(good[3:6])]
    assert item_set(lists.items[1, 3]) == frozenset(good[:1])
    assert np.array_equal(lists.items[1, :3, :-1], drawn.items[1, :3])
    assert np.array_equal(lists.items[2:, :, :-1], drawn.items[2:])


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["hash", "files", "item-disjoint", "time"]), st.booleans())
def test_no_list_holds_a_positive_of_its_user_from_any_part(
    seed: int, kind: str, half: bool
) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, n_items=12, n_positives=80)
    n = len(catalog.positives)
    catalog = dataclasses.replace(
        catalog,
        positive_at=rng.integers(0, 20, n),
        positive_part=rng.integers(-1, 5, n).astype(np.int8),
    )
    parts: Int8Array = split_parts(catalog, SPLIT.model_copy(update={"kind": kind}))
    liked = liked_sets(catalog)
    for part in Part:
        lists = evaluation_lists(catalog, parts, part, 3, seed, hard_share=half / 2)
        assert len(lists.user) + lists.left_out == (parts == part).sum()
        for user, rows in zip(lists.user, lists.items, strict=True):
            assert item_set(rows[0]) in liked[int(user)]
            assert not any(item_set(row) in liked[int(user)] for row in rows[1:])
