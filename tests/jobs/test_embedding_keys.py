"""What changed between two catalogs, against dictionaries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recjob.jobs.embedding_keys import Held, changes, distinct, outfit_keys, places
from tests.ranking.catalogs import catalog


def key(*numbers: int) -> NDArray[np.uint8]:
    """Keys that begin with these numbers; 0: none."""
    keys = np.zeros((len(numbers), 32), np.uint8)
    keys[:, 0] = numbers
    return keys


def held(entries: dict[int, int]) -> Held:
    return Held(np.array(list(entries), np.int32), key(*entries.values()))


def test_changes_are_those_of_dictionaries() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        before, now = (
            {int(n): int(rng.integers(0, 4)) for n in rng.permutation(12)[: rng.integers(0, 12)]}
            for _ in range(2)
        )
        found = changes(held(before), held(now))
        numbers = list(now)
        assert {numbers[row] for row in found.new} == {
            n for n, k in now.items() if k and before.get(n) != k
        }
        assert set(found.gone.tolist()) == {
            n for n, k in before.items() if k and now.get(n, 0) != k
        }
        assert (np.diff(found.new) > 0).all()


def test_two_that_exchange_their_pictures_both_changed() -> None:
    found = changes(held({7: 1, 5: 2, 6: 3}), held({5: 1, 6: 3, 7: 2}))
    assert set(found.gone.tolist()) == {5, 7}
    assert found.new.tolist() == [0, 2]


def test_where_nothing_was_known_everything_is_new() -> None:
    found = changes(None, held({3: 1, 4: 0, 5: 2}))
    assert found.gone.size == 0
    assert found.new.tolist() == [0, 2]


def test_places_and_distinct() -> None:
    assert places(key(3, 9, 1), key(1, 2, 3)).tolist() == [2, -1, 0]
    first, place = distinct(key(4, 2, 4, 2, 9))
    assert first.tolist() == [0, 1, 4]
    assert place.tolist() == [0, 1, 0, 1, 2]


def test_an_outfit_is_the_set_of_its_pictures() -> None:
    shop = catalog([[0, 1, 2], [2, 0, 1], [0, 1], [3, 1], [4]], quarantined_items=(3,))
    keys = outfit_keys(shop)
    assert (keys[0] == keys[1]).all()
    assert not (keys[0] == keys[2]).all()
    assert keys.any(axis=1).tolist() == [True, True, True, False, True]
