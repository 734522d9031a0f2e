"""Quality on the test part, of newcomers, and of the teacher's d."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recjob.errors import DataError
from recjob.evaluation.metrics import auc
from recjob.jobs.evaluate import EvaluateResult, evaluate
from tests.fixtures_shop import Shop

METHODS = ["student", "teacher", "popularity", "random"]


def evaluated(shop: Shop) -> EvaluateResult:
    result = shop.results["evaluate"]
    assert isinstance(result, EvaluateResult)
    return result


def test_four_methods_on_the_same_lists(trained_shop: Shop) -> None:
    result = evaluated(trained_shop)
    assert [row.method for row in result.quality] == METHODS
    for row in result.quality:
        for value, interval in (
            (row.auc, row.auc_interval),
            (row.ndcg_mean, row.ndcg_mean_interval),
            (row.ndcg, row.ndcg_interval),
            (row.recall, row.recall_interval),
        ):
            assert interval is not None
            assert 0 <= interval[0] <= value <= interval[1] <= 1
        assert 0 < row.coverage <= 1
        assert row.novelty is not None
        assert 3 < row.novelty < 9  # log2 of 60 items is 5.9
        assert row.diversity is not None
        assert 0 <= row.diversity <= 2
    assert 1 <= result.users <= 12
    assert result.positives >= result.users
    assert (result.negatives, result.negatives_per_positive) == ("random", 10)
    assert result.cold_start == ()
    assert result.truth is None


def test_groups_are_parts_of_the_whole(trained_shop: Shop) -> None:
    result = evaluated(trained_shop)
    for method in result.quality:
        own = [group for group in result.groups if group.method == method.method]
        assert sum(group.users for group in own) == result.users
        for metric in ("auc", "ndcg_mean", "ndcg", "recall"):
            mean = sum(getattr(group, metric) * group.users for group in own) / result.users
            assert mean == pytest.approx(getattr(method, metric))
    assert {group.training_positives for group in result.groups} <= {
        "0-19",
        "20-49",
        "50-99",
        "100 or more",
    }


def test_the_same_again_and_recall_in_the_best_of_all_outfits(shop: Shop) -> None:
    """The student's lists are those that its vectors give, without what a user liked before."""
    before = evaluated(shop)
    result = shop.run("evaluate", evaluate)
    assert result.quality == before.quality
    assert result.groups == before.groups

    from recjob.catalog.split import Part, split_parts
    from recjob.store.catalog_store import read_catalog
    from recjob.store.database import open_database

    with open_database(shop.settings) as database, database.connect() as connection:
        catalog = read_catalog(connection)
    parts = split_parts(catalog, shop.settings.split)
    outfits, users = shop.outfit_vectors(), shop.user_vectors()
    assert result.candidates == len(outfits)
    recalls, listed = [], set()
    for user, user_id in enumerate(catalog.user_ids):
        own = catalog.positives[:, 0] == user
        test = {catalog.outfit_ids[o] for o in catalog.positives[own & (parts == Part.TEST), 1]}
        other = {catalog.outfit_ids[o] for o in catalog.positives[own & (parts != Part.TEST), 1]}
        if user_id not in users or not test:
            continue
        scores = {name: float(users[user_id] @ vector) for name, vector in outfits.items()}
        best = sorted(scores.keys() - other, key=lambda name: -scores[name])[: result.k]
        recalls.append(len(test & set(best)) / len(test))
        listed |= set(best)
    assert result.quality[0].recall == pytest.approx(np.mean(recalls))
    assert result.quality[0].coverage == pytest.approx(len(listed) / len(outfits))


def test_newcomers_after_one_outfit(shop: Shop) -> None:
    cold = {user: outfits for user, outfits in shop.liked().items() if user.startswith("newcomer")}
    enough = [user for user, outfits in cold.items() if len(outfits) > 1]
    result = shop.run("evaluate", partial(evaluate, cold_start=True))
    rows = [(row.outfits, row.strategy, row.users) for row in result.cold_start]
    # None of them has six outfits, which showing five and ranking one would need.
    assert rows == [(1, "avg", len(enough)), (1, "w-avg", len(enough))]
    assert all(0 <= row.auc <= 1 for row in result.cold_start)


def test_hard_negatives_are_harder(shop: Shop) -> None:
    """Other users' positives are popular items, which random outfits are less."""
    random = evaluated(shop)
    hard = shop.run("evaluate", partial(evaluate, negatives="hard"))
    half = shop.run("evaluate", partial(evaluate, negatives="half"))
    assert (hard.negatives, half.negatives) == ("hard", "half")
    assert hard.positives + hard.left_out == random.positives + random.left_out
    popularity = [result.quality[2].auc for result in (hard, half, random)]
    assert popularity == sorted(popularity)
    # Lists over the whole catalog have no negatives.
    if hard.users == random.users:
        assert [row.recall for row in hard.quality] == [row.recall for row in random.quality]


def test_no_newcomers(shop: Shop) -> None:
    shop.rows(
        "DELETE FROM interaction USING app_user WHERE app_user.user_key = interaction.user_key "
        "AND user_id LIKE 'newcomer%'"
    )
    with pytest.raises(DataError, match="import newcomers first"):
        shop.run("evaluate", partial(evaluate, cold_start=True))


def test_truth_of_the_drawn_catalog_and_by_file(shop: Shop, tmp_path: Path) -> None:
    """The truth goes out and comes back, and the figures with it."""
    judged = tmp_path / "judged.csv"
    result = shop.run("evaluate", partial(evaluate, truth=True, judged_file=judged))
    drawn = result.truth
    assert drawn is not None
    assert (drawn.truth, drawn.left_out) == ("drawn", 0)
    assert drawn.hits is not None
    assert drawn.held_out is not None
    assert 0.03 < drawn.hits.base_rate < 0.1
    assert drawn.held_out.positives == result.positives + result.left_out

    from recjob.catalog.drawn_truth import truly_liked
    from recjob.catalog.synthetic import simulate

    world = simulate(shop.settings.demo, shop.settings.seed)
    lines = [line.replace('"', "").split(",") for line in judged.read_text().splitlines()]
    assert lines.pop(0) == ["user_id", "item_ids", "teacher_score", "d"]
    assert len(lines) == drawn.hits.negatives
    d = np.array([float(line[3]) for line in lines])
    users = np.array([world.user_ids.index(line[0]) for line in lines], np.int32)
    items = np.full((len(lines), 4), -1, np.int32)
    for row, line in enumerate(lines):
        numbers = [world.item_ids.index(item) for item in line[1].split("|")]
        items[row, : len(numbers)] = numbers
    liked = truly_liked(world, users, items)
    assert drawn.hits.base_rate == pytest.approx(liked.mean())
    assert drawn.hits.below_zero == pytest.approx((d < 0).mean(), abs=1e-3)
    assert drawn.hits.hit_rate == pytest.approx(liked[d < 0].mean(), abs=1e-2)
    deciles = [decile.liked for decile in drawn.hits.deciles]
    # The lower d, the likelier liked: as far as the AUC of -d is from a half, so are the deciles.
    assert (np.mean(deciles[:5]) > np.mean(deciles[5:])) == (auc(-d, liked) > 0.5)

    known = tmp_path / "truth.csv"
    rows = [
        f"{line[0]},{line[1]},{str(bool(yes)).lower()}"
        for line, yes in zip(lines, liked, strict=True)
    ]
    known.write_text("\n".join(["user_id,item_ids,liked", *rows, "newcomer-001,item-001,true"]))
    by_file = shop.run("evaluate", partial(evaluate, truth=True, truth_file=known)).truth
    assert by_file is not None
    assert (by_file.truth, by_file.left_out) == ("file", 1)
    assert by_file.hits == drawn.hits
    assert by_file.held_out == drawn.held_out


def test_truth_of_other_settings_and_of_another_shop(shop: Shop) -> None:
    other = shop.settings.model_copy(update={"seed": 2})
    from recjob.jobs.runner import run_job
    from recjob.store.database import open_database

    with (
        open_database(other) as database,
        pytest.raises(DataError, match=r"drawn with other settings.*--settings"),
    ):
        run_job("evaluate", database, other, partial(evaluate, truth=True))
    # Somebody's shop: its items have names of their own.
    shop.rows("UPDATE item SET item_id = 'my-' || item_id WHERE item_id = 'item-001'")
    result = shop.run("evaluate", partial(evaluate, truth=True)).truth
    assert result is not None
    assert (result.truth, result.hits) == ("unknown", None)
    assert result.held_out is not None
    assert result.held_out.random_below_zero > 0
