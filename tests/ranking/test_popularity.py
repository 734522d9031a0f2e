import numpy as np

from recjob.ranking.popularity import item_counts, outfit_scores, popularity_scores
from tests.ranking.catalogs import catalog

OUTFITS = [[0, 1], [1, 2, 3], [3], [4]]
SHOP = catalog(OUTFITS, [(0, 0), (0, 1), (1, 1), (2, 2)])


def test_an_outfit_is_as_popular_as_its_items_together() -> None:
    # Worn in the positives: item 0 once, 1 three times, 2 twice, 3 three times, 4 never.
    assert item_counts(SHOP, SHOP.positives).tolist() == [1, 3, 2, 3, 0]
    assert popularity_scores(SHOP, SHOP.positives).tolist() == [4, 8, 3, 0]


def test_only_the_given_positives_count() -> None:
    assert popularity_scores(SHOP, SHOP.positives[:1]).tolist() == [2, 1, 0, 0]
    assert popularity_scores(SHOP, SHOP.positives[:0]).tolist() == [0, 0, 0, 0]


def test_tuples_that_are_no_outfit_are_scored_too() -> None:
    drawn = np.array([[4, 0, -1], [-1, -1, -1], [3, 2, 1]])
    assert outfit_scores(np.array([1, 3, 2, 3, 0]), drawn).tolist() == [1, 0, 8]
