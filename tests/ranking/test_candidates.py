import numpy as np

from recjob.ranking.candidates import candidates
from tests.ranking.catalogs import catalog


def test_each_reason_is_counted_once_and_the_rest_may_be_recommended() -> None:
    shop = catalog(
        [[0, 1], [2], [3, 4], [5, 0], [1, 5], [], [2, 3, 5], [0, 1, 2]],
        unavailable_items=(4,),
        quarantined_items=(5,),
        unavailable_outfits=(1, 6),
    )
    found = candidates(shop)
    assert found.indices.tolist() == [0, 7]
    assert found.filtered == {
        "unavailable outfit": 2,  # 1, and 6, whose quarantined item counts no more
        "unavailable item": 1,
        "quarantined item": 2,
        "without items": 1,
    }
    assert found.count + sum(found.filtered.values()) == shop.n_outfits
    np.testing.assert_array_equal(found.mask, shop.outfit_recommendable)


def test_an_outfit_that_was_not_embedded_waits() -> None:
    found = candidates(catalog([[0], [1], [2]]), np.array([True, False, True]))
    assert found.indices.tolist() == [0, 2]
    assert found.filtered["without vector"] == 1


def test_padding_does_not_borrow_the_flags_of_the_last_item() -> None:
    shop = catalog([[0], [1, 2]], unavailable_items=(2,))
    assert candidates(shop).indices.tolist() == [0]
