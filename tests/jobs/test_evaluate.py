"""Quality on the test part, and of newcomers."""

from __future__ import annotations

from functools import partial

import pytest

from recjob.errors import DataError
from recjob.jobs.evaluate import EvaluateResult, evaluate
from tests.fixtures_shop import Shop


def test_four_methods_on_the_same_lists(trained_shop: Shop) -> None:
    result = trained_shop.results["evaluate"]
    assert isinstance(result, EvaluateResult)
    assert [row.method for row in result.quality] == ["student", "teacher", "popularity", "random"]
    for row in result.quality:
        assert 0 <= row.auc <= 1
        assert 0 <= row.ndcg_mean <= 1
        assert 0 <= row.ndcg <= 1
    assert 1 <= result.users <= 12
    assert result.positives >= result.users
    assert result.cold_start == ()


def test_the_same_again(shop: Shop) -> None:
    before = shop.results["evaluate"]
    assert isinstance(before, EvaluateResult)
    assert shop.run("evaluate", evaluate).quality == before.quality


def test_newcomers_after_one_outfit(shop: Shop) -> None:
    cold = {user: outfits for user, outfits in shop.liked().items() if user.startswith("newcomer")}
    enough = [user for user, outfits in cold.items() if len(outfits) > 1]
    result = shop.run("evaluate", partial(evaluate, cold_start=True))
    rows = [(row.outfits, row.strategy, row.users) for row in result.cold_start]
    # None of them has six outfits, which showing five and ranking one would need.
    assert rows == [(1, "avg", len(enough)), (1, "w-avg", len(enough))]
    assert all(0 <= row.auc <= 1 for row in result.cold_start)


def test_no_newcomers(shop: Shop) -> None:
    shop.rows(
        "DELETE FROM interaction USING app_user WHERE app_user.user_key = interaction.user_key "
        "AND user_id LIKE 'newcomer%'"
    )
    with pytest.raises(DataError, match="import newcomers first"):
        shop.run("evaluate", partial(evaluate, cold_start=True))
