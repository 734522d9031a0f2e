"""Everyone's list is the right one: held against slow, naive rankings in float64."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import RefusedError
from recjob.jobs.embed import embed
from recjob.jobs.import_tables import import_tables
from recjob.jobs.nightly_recommend import NightlyResult, nightly_recommend
from recjob.store.catalog_store import read_catalog
from recjob.store.database import open_database
from tests.fixtures_shop import Float64Array, K, Shop

CLOSE = 1e-5
"""Scores are float32; these are recomputed in float64."""


def kinds(shop: Shop) -> dict[str, set[str]]:
    """Users of the published run by how they were served."""
    rows = shop.rows(
        "SELECT kind, array_agg(user_id) FROM recommendation JOIN app_user USING (user_key) "
        "WHERE run_id = (SELECT current_run FROM publication) GROUP BY kind"
    )
    return {kind: set(users) for kind, users in rows}


def assert_best(shop: Shop, user: str, scores: dict[str, float]) -> None:
    """The user's list holds the best of `scores`, whose outfits are those that may be in it."""
    listed = shop.lists()[user]
    best = sorted(scores.values(), reverse=True)[:K]
    assert [scores[outfit] for outfit, _ in listed] == pytest.approx(best, abs=CLOSE)
    assert [score for _, score in listed] == pytest.approx(best, abs=CLOSE)


def test_every_user_has_one_list_of_distinct_outfits_that_can_be_worn(trained_shop: Shop) -> None:
    lists, liked, wearable = trained_shop.lists(), trained_shop.liked(), trained_shop.wearable()
    assert lists.keys() == trained_shop.users()
    assert len(wearable) < len(trained_shop.items_of())  # some outfits must not be recommended
    for user, entries in lists.items():
        outfits = {outfit for outfit, _ in entries}
        assert len(entries) == len(outfits) == K
        assert outfits <= wearable - liked[user]
    twice = trained_shop.rows(
        "SELECT user_key FROM recommendation GROUP BY run_id, user_key HAVING count(*) > 1"
    )
    assert not twice


def test_the_counts_say_so(trained_shop: Shop) -> None:
    result = trained_shop.results["nightly-recommend"]
    assert isinstance(result, NightlyResult)
    assert {kind: len(users) for kind, users in kinds(trained_shop).items()} == {
        "warm": result.users.warm,
        "cold": result.users.cold,
        "stranger": result.users.stranger,
    }
    assert result.lists == len(trained_shop.users())
    assert result.candidates == len(trained_shop.wearable())
    assert result.candidates + sum(result.filtered.values()) == len(trained_shop.items_of())
    assert (result.shortest_list, result.k) == (K, K)


def test_who_is_warm_cold_and_a_stranger(trained_shop: Shop) -> None:
    liked = trained_shop.liked()
    served = kinds(trained_shop)
    assert served["warm"] == trained_shop.user_vectors().keys()
    assert served["stranger"] == {user for user, outfits in liked.items() if not outfits}
    assert served["cold"] == liked.keys() - served["warm"] - served["stranger"]
    assert all(served.values())


def test_warm_users_get_the_best_cosines(trained_shop: Shop) -> None:
    vectors, liked = trained_shop.outfit_vectors(), trained_shop.liked()
    allowed = trained_shop.wearable()
    for user, vector in trained_shop.user_vectors().items():
        scores = {outfit: float(vector @ vectors[outfit]) for outfit in allowed - liked[user]}
        assert_best(trained_shop, user, scores)


def neighbours_scores(shop: Shop, user: str, strategy: str) -> dict[str, float]:
    """Eq. 20 to 24 by the book, for the outfits that the user may get."""
    vectors, liked = shop.outfit_vectors(), shop.liked()[user]
    warm = list(shop.user_vectors().values())
    options = shop.settings.cold_start
    similarity = [np.mean([u @ vectors[outfit] for outfit in liked]) for u in warm]  # Eq. 20
    near = [s > options.threshold or s == max(similarity) for s in similarity]  # Eq. 21
    weights = np.array(near, np.float64)  # Eq. 22
    if strategy == "w-avg":
        weights *= np.exp(np.array(similarity) / options.temperature)  # Eq. 23
    weights /= weights.sum()
    return {
        outfit: sum(float(w * (u @ vectors[outfit])) for w, u in zip(weights, warm, strict=True))
        for outfit in shop.wearable() - liked
    }


def test_cold_starters_get_what_their_neighbours_like(trained_shop: Shop) -> None:
    for user in kinds(trained_shop)["cold"]:
        assert_best(trained_shop, user, neighbours_scores(trained_shop, user, "w-avg"))


def test_neighbours_all_alike(shop: Shop) -> None:
    plain = shop.settings.cold_start.model_copy(update={"strategy": "avg"})
    other = with_settings(shop, cold_start=plain)
    other.run("nightly-recommend", nightly_recommend)
    for user in kinds(shop)["cold"]:
        assert_best(shop, user, neighbours_scores(shop, user, "avg"))


def with_settings(shop: Shop, **sections: object) -> Shop:
    return replace(shop, settings=shop.settings.model_copy(update=sections))


def test_liked_outfits_again_where_settings_allow(shop: Shop) -> None:
    nightly = shop.settings.nightly.model_copy(update={"k": 50})
    rules = shop.settings.rules.model_copy(update={"exclude_seen": False})
    with_settings(shop, nightly=nightly, rules=rules).run("nightly-recommend", nightly_recommend)
    vectors, liked, lists = shop.outfit_vectors(), shop.liked(), shop.lists()
    again = 0
    for user, vector in shop.user_vectors().items():
        best = sorted((float(vector @ vectors[o]) for o in shop.wearable()), reverse=True)[:50]
        assert [score for _, score in lists[user]] == pytest.approx(best, abs=CLOSE)
        again += len(liked[user] & {outfit for outfit, _ in lists[user]})
    assert again > 0


def test_strangers_share_a_popular_and_varied_list(trained_shop: Shop) -> None:
    lists = trained_shop.lists()
    [shared, *others] = [lists[user] for user in sorted(kinds(trained_shop)["stranger"])]
    assert others == [shared]
    popularity = popularity_of(trained_shop)
    chosen = naive_variety(trained_shop, popularity)
    assert [outfit for outfit, _ in shared] == chosen
    most = max(popularity.values())
    assert [score for _, score in shared] == pytest.approx(
        [popularity[outfit] / most for outfit in chosen], abs=CLOSE
    )


def popularity_of(shop: Shop) -> dict[str, int]:
    """How often an outfit's items are worn in training positives, of every outfit to wear."""
    with open_database(shop.settings) as database, database.connect() as connection:
        catalog = read_catalog(connection)
    training = part_positives(catalog, split_parts(catalog, shop.settings.split), Part.TRAIN)
    items = shop.items_of()
    counts = dict.fromkeys(catalog.item_ids, 0)
    for _, outfit in training:
        for item in items[catalog.outfit_ids[outfit]]:
            counts[item] += 1
    return {outfit: sum(counts[item] for item in items[outfit]) for outfit in shop.wearable()}


def naive_variety(shop: Shop, popularity: dict[str, int]) -> list[str]:
    """Maximal marginal relevance by the book."""
    options, vectors = shop.settings.nightly, shop.outfit_vectors()
    pool = sorted(popularity, key=lambda outfit: (-popularity[outfit], outfit))
    pool = pool[: options.stranger_pool]
    low, high = popularity[pool[-1]], popularity[pool[0]]

    def gain(outfit: str, taken: list[Float64Array]) -> float:
        nearest = max(float(vectors[outfit] @ vector) for vector in taken)
        relevance = (popularity[outfit] - low) / (high - low)
        return options.stranger_relevance * relevance - (1 - options.stranger_relevance) * nearest

    chosen = [pool[0]]
    while len(chosen) < options.k:
        taken = [vectors[outfit] for outfit in chosen]
        left = [outfit for outfit in pool if outfit not in chosen]
        chosen.append(max(left, key=lambda outfit: gain(outfit, taken)))
    return chosen


def test_the_same_catalog_gives_the_same_lists_again(shop: Shop) -> None:
    before = shop.lists()
    first = shop.results["nightly-recommend"].run_id
    result = shop.run("nightly-recommend", nightly_recommend)
    assert result.run_id > first
    assert (result.new_items, result.new_outfits) == (0, 0)
    assert shop.rows("SELECT current_run, previous_runs FROM publication") == [
        (result.run_id, [first])
    ]
    assert shop.lists() == before


def test_newcomers_and_new_outfits_need_no_training(shop: Shop) -> None:
    models = shop.rows("SELECT count(*) FROM model")
    folder = shop.folder / "late"
    (folder / "images").mkdir(parents=True)
    picture = (shop.folder / "shop" / "images" / "item-001.jpg").read_bytes()
    # Bytes after the end of a JPEG are ignored: the same garment in another file.
    (folder / "images" / "new.jpg").write_bytes(picture + b"another file")
    known, other = sorted(shop.wearable())[:2]
    companion = shop.items_of()[other][0]
    (folder / "items.csv").write_text("item_id,category,image\nnew-item,top,images/new.jpg\n")
    (folder / "outfits.csv").write_text(f"outfit_id,item_ids\nnew-outfit,new-item|{companion}\n")
    (folder / "interactions.csv").write_text(
        f"user_id,outfit_id\nlate-1,{known}\nlate-1,{other}\nlate-2,new-outfit\n"
    )
    (folder / "users.csv").write_text("user_id\nlate-3\n")
    shop.run("import", partial(import_tables, folder=folder))
    result = shop.run("nightly-recommend", nightly_recommend)
    assert (result.new_items, result.new_outfits) == (1, 1)
    assert result.candidates == len(shop.wearable())
    assert "new-outfit" in shop.wearable()
    served = kinds(shop)
    assert {"late-1", "late-2"} <= served["cold"]
    assert "late-3" in served["stranger"]
    lists = shop.lists()
    assert lists.keys() == shop.users()
    assert not {known, other} & {outfit for outfit, _ in lists["late-1"]}
    assert shop.rows("SELECT count(*) FROM model") == models
    new = shop.outfit_vectors()["new-outfit"]
    assert np.linalg.norm(new) == pytest.approx(1, abs=CLOSE)


def set_available(shop: Shop, unavailable: set[str]) -> None:
    """Import the shop's items again, all available but these."""
    path = shop.folder / "shop" / "items.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            available = "false" if row["item_id"] in unavailable else "true"
            writer.writerow(row | {"available": available})
    shop.run("import", partial(import_tables, folder=shop.folder / "shop"))


def stored_lists(shop: Shop) -> dict[str, list[str]]:
    """Outfits of the published run by user, the spare ones too."""
    return dict(
        shop.rows(
            "SELECT user_id, array_agg(outfit_id ORDER BY place) FROM recommendation "
            "JOIN app_user USING (user_key) CROSS JOIN LATERAL unnest(outfit_keys) "
            "WITH ORDINALITY AS listed (outfit_key, place) JOIN outfit USING (outfit_key) "
            "WHERE run_id = (SELECT current_run FROM publication) GROUP BY user_id"
        )
    )


def test_lists_are_stored_longer_than_they_are_shown(trained_shop: Shop) -> None:
    spare = trained_shop.settings.nightly.spare
    shown, stored = trained_shop.lists(), stored_lists(trained_shop)
    for user, entries in shown.items():
        assert len(stored[user]) == K + spare
        assert [outfit for outfit, _ in entries] == stored[user][:K]


def test_visitors_without_an_id_get_the_strangers_list(trained_shop: Shop) -> None:
    stranger = min(kinds(trained_shop)["stranger"])
    assert trained_shop.default_list() == trained_shop.lists()[stranger]


def test_what_is_sold_out_vanishes_at_once_and_from_the_next_run(shop: Shop) -> None:
    before, items, stored = shop.lists(), shop.items_of(), stored_lists(shop)
    gone = items[before["user-001"][0][0]][0]
    unavailable = {
        item for (item,) in shop.rows("SELECT item_id FROM item WHERE NOT available")
    } | {gone}
    set_available(shop, unavailable)
    for user, entries in shop.lists().items():
        left = [outfit for outfit in stored[user] if gone not in items[outfit]]
        assert [outfit for outfit, _ in entries] == left[:K]  # the spare ones move up
    assert any(lists != before[user] for user, lists in shop.lists().items())
    ranks = shop.rows("SELECT rank FROM current_recommendation WHERE user_id = 'user-001'")
    assert sorted(ranks) == [(rank,) for rank in range(1, len(ranks) + 1)]
    shop.run("nightly-recommend", nightly_recommend)
    for entries in shop.lists().values():
        assert len(entries) == K
        assert not any(gone in items[outfit] for outfit, _ in entries)


def test_nothing_to_recommend_is_refused_and_the_old_run_stays(shop: Shop) -> None:
    before = shop.rows("SELECT current_run FROM publication")
    shop.rows("UPDATE outfit SET available = false")
    with pytest.raises(RefusedError, match=r"unavailable outfit: .*nothing was published"):
        shop.run("nightly-recommend", nightly_recommend)
    assert shop.rows("SELECT current_run FROM publication") == before
    [(outcome, error)] = shop.rows(
        "SELECT outcome, error FROM job_run ORDER BY run_id DESC LIMIT 1"
    )
    assert outcome == "refused"
    assert "nothing was published" in error


def test_short_lists_where_few_outfits_are_left(shop: Shop) -> None:
    kept = sorted(shop.wearable())[:5]
    shop.rows("UPDATE outfit SET available = outfit_id = ANY (%s)", kept)
    result = shop.run("nightly-recommend", nightly_recommend)
    lists, liked = shop.lists(), shop.liked()
    for user in shop.users():
        assert {outfit for outfit, _ in lists.get(user, [])} == set(kept) - liked[user]
    assert result.shortest_list == min(len(lists.get(user, [])) for user in shop.users())


def test_old_runs_are_dropped(shop: Shop) -> None:
    nightly = shop.settings.nightly.model_copy(update={"keep_runs": 2})
    other = with_settings(shop, nightly=nightly)
    runs = [other.run("nightly-recommend", nightly_recommend).run_id for _ in range(3)]
    assert shop.rows("SELECT current_run, previous_runs FROM publication") == [(runs[2], [runs[1]])]
    kept = shop.rows("SELECT DISTINCT run_id FROM recommendation ORDER BY 1")
    assert kept == [(runs[1],), (runs[2],)]


def test_runs_that_count_as_recent_are_kept(shop: Shop) -> None:
    nightly = shop.settings.nightly.model_copy(update={"keep_runs": 2})
    rules = shop.settings.rules.model_copy(update={"exclude_recent_nights": 3})
    other = with_settings(shop, nightly=nightly, rules=rules)
    runs = [other.run("nightly-recommend", nightly_recommend).run_id for _ in range(4)]
    kept = shop.rows("SELECT run_id FROM recommendation_run ORDER BY 1")
    assert kept == [(run,) for run in runs[1:]]


def test_a_user_who_was_deleted_since_the_training(shop: Shop) -> None:
    for table in ("interaction", "user_embedding", "app_user"):
        shop.rows(
            f"DELETE FROM {table} WHERE user_key = "
            "(SELECT user_key FROM app_user WHERE user_id = 'user-003')"
        )
    result = shop.run("nightly-recommend", nightly_recommend)
    assert result.users.warm == 11
    assert shop.lists().keys() == shop.users()
    assert "user-003" not in shop.users()


def test_a_newcomer_whose_outfits_lost_their_pictures_is_a_stranger(shop: Shop) -> None:
    user, liked = min(
        ((user, outfits) for user, outfits in shop.liked().items() if user.startswith("newcomer")),
        key=lambda pair: len(pair[1]),
    )
    items = sorted({shop.items_of()[outfit][0] for outfit in liked})
    shop.rows(
        "UPDATE item SET image_sha256 = NULL, quarantine_reason = 'gone' WHERE item_id = ANY (%s)",
        items,
    )
    shop.run("nightly-recommend", nightly_recommend)
    assert user in kinds(shop)["stranger"]
    assert shop.lists().keys() == shop.users()


def test_a_shop_without_users_has_a_list_for_visitors(shop: Shop) -> None:
    for table in ("interaction", "user_embedding", "app_user"):
        shop.rows(f"DELETE FROM {table}")
    limits = shop.settings.limits.model_copy(update={"max_user_loss": 1.0, "max_coverage_loss": 1})
    result = with_settings(shop, limits=limits).run("nightly-recommend", nightly_recommend)
    assert (result.lists, result.shards) == (0, 0)
    assert not shop.lists()
    assert len(shop.default_list()) == K


def test_a_shop_that_lost_all_its_pictures(shop: Shop) -> None:
    shop.rows("UPDATE item SET image_sha256 = NULL, quarantine_reason = 'gone'")
    embedded = shop.run("embed", embed)
    assert (embedded.items, embedded.outfits, embedded.index_recall) == (0, 0, 1.0)
    with pytest.raises(RefusedError, match=r"quarantined item: .*nothing was published"):
        shop.run("nightly-recommend", nightly_recommend)
    assert not shop.lists()  # the view leaves out what cannot be worn
