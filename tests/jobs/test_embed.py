"""Vectors are computed once, and are the same in the artifact, in Postgres and in FAISS."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest

from recjob.errors import RefusedError
from recjob.jobs.embed import EmbedResult, embed
from recjob.jobs.import_tables import import_tables
from tests.fixtures_shop import K, Shop

HALF = 1e-3
"""Components are at most 1, halves have 11 bits."""


def test_everything_is_embedded_once(trained_shop: Shop) -> None:
    result = trained_shop.results["embed"]
    assert isinstance(result, EmbedResult)
    assert (result.items, result.new_items) == (60, 60)
    assert result.outfits == result.new_outfits == len(trained_shop.items_of())
    assert result.users == len(trained_shop.user_vectors())
    assert (result.engine, result.index_recall) == ("torch cpu fp32", 1.0)
    assert result.reason


@pytest.mark.parametrize("entity", ["outfit", "user"])
def test_vectors_in_postgres_are_those_of_the_artifact(trained_shop: Shop, entity: str) -> None:
    check_postgres(trained_shop, entity)


def check_postgres(shop: Shop, entity: str) -> None:
    table, names = {"outfit": ("outfit", "outfit_id"), "user": ("app_user", "user_id")}[entity]
    stored = {
        name: np.array(json.loads(vector))
        for name, vector in shop.rows(
            f"SELECT {names}, vector::text FROM {entity}_embedding JOIN {table} "
            f"USING ({entity}_key)"
        )
    }
    truth = {"outfit": shop.outfit_vectors, "user": shop.user_vectors}[entity]()
    assert stored.keys() == truth.keys()
    for name, vector in truth.items():
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert stored[name] == pytest.approx(vector, abs=HALF)


def test_the_faiss_file_finds_what_the_vectors_say(trained_shop: Shop) -> None:
    result = trained_shop.results["embed"]
    assert isinstance(result, EmbedResult)
    index = faiss.read_index(result.index)
    ids = json.loads(Path(f"{result.index}.ids.json").read_text())["outfit_ids"]
    vectors = trained_shop.outfit_vectors()
    assert set(ids) == vectors.keys()
    for user in trained_shop.user_vectors().values():
        scores, rows = index.search(user[None].astype(np.float32), K)
        best = sorted((float(user @ vector) for vector in vectors.values()), reverse=True)[:K]
        assert scores[0] == pytest.approx(best, abs=1e-5)
        found = [float(user @ vectors[ids[row]]) for row in rows[0]]
        assert found == pytest.approx(best, abs=1e-5)


def row_versions(shop: Shop) -> dict[tuple[str, int], str]:
    """The transaction that wrote each row."""
    return {
        (entity, number): written
        for entity, table in (
            ("item", "item_feature"),
            ("outfit", "outfit_embedding"),
            ("user", "user_embedding"),
        )
        for number, written in shop.rows(f"SELECT {entity}_key, xmin::text FROM {table}")
    }


def change_picture(shop: Shop, item: str, by: str) -> None:
    images = shop.folder / "shop" / "images"
    (images / f"{item}.jpg").write_bytes((images / f"{by}.jpg").read_bytes() + b"new")
    shop.run("import", partial(import_tables, folder=shop.folder / "shop"))


def test_a_second_time_computes_and_writes_nothing(shop: Shop) -> None:
    before, rows = shop.outfit_vectors(), row_versions(shop)
    result = shop.run("embed", embed)
    assert (result.new_items, result.new_outfits) == (0, 0)
    assert (result.items, result.users) == (60, 12)
    assert (result.rows_written, result.index_built) == (0, False)
    after = shop.outfit_vectors()
    assert all((after[outfit] == vector).all() for outfit, vector in before.items())
    assert row_versions(shop) == rows
    assert result.index_recall == 1.0


def test_one_new_item_computes_one(shop: Shop) -> None:
    folder = shop.folder / "late"
    folder.mkdir()
    picture = (shop.folder / "shop" / "images" / "item-002.jpg").read_bytes()
    (folder / "new.jpg").write_bytes(picture + b"another file")
    (folder / "items.csv").write_text("item_id,category,image\nnew-item,top,new.jpg\n")
    shop.run("import", partial(import_tables, folder=folder))
    result = shop.run("embed", embed)
    assert (result.items, result.new_items, result.new_outfits) == (61, 1, 0)
    vectors = shop.rows(
        "SELECT vector::text FROM item_feature JOIN item USING (item_key) "
        "WHERE item_id IN ('new-item', 'item-002')"
    )
    first, second = (np.array(json.loads(vector)) for (vector,) in vectors)
    assert first == pytest.approx(second, abs=HALF)  # the same garment


def test_a_changed_picture_is_computed_again_with_its_outfits(shop: Shop) -> None:
    before, rows = shop.outfit_vectors(), row_versions(shop)
    items = shop.items_of()
    change_picture(shop, "item-003", by="item-004")
    result = shop.run("embed", embed)
    touched = {outfit for outfit, worn in items.items() if "item-003" in worn}
    assert (result.new_items, result.new_outfits) == (1, len(touched))
    after = shop.outfit_vectors()
    changed = {outfit for outfit, vector in before.items() if (after[outfit] != vector).any()}
    assert changed == touched
    assert touched
    # Of Postgres only these rows were written.
    now = row_versions(shop)
    written = {row for row, version in now.items() if rows.get(row) != version}
    keys = dict(shop.rows("SELECT outfit_id, outfit_key FROM outfit"))
    [(item,)] = shop.rows("SELECT item_key FROM item WHERE item_id = 'item-003'")
    assert written == {("item", item)} | {("outfit", keys[outfit]) for outfit in touched}
    assert now.keys() == rows.keys()
    assert (result.rows_written, result.index_built) == (len(written), True)
    check_postgres(shop, "outfit")


def test_two_items_that_exchange_their_pictures(shop: Shop) -> None:
    images = shop.folder / "shop" / "images"
    first, second = ((images / f"item-00{number}.jpg").read_bytes() for number in (3, 4))
    (images / "item-003.jpg").write_bytes(second)
    (images / "item-004.jpg").write_bytes(first)
    shop.run("import", partial(import_tables, folder=shop.folder / "shop"))
    query = "SELECT item_id, vector::text FROM item_feature JOIN item USING (item_key)"
    before = dict(shop.rows(query))
    result = shop.run("embed", embed)
    assert result.new_items == 0  # both pictures are known
    after = dict(shop.rows(query))
    assert (after["item-003"], after["item-004"]) == (before["item-004"], before["item-003"])
    check_postgres(shop, "outfit")


def test_an_item_in_quarantine_takes_its_vectors_along_and_brings_them_back(shop: Shop) -> None:
    rows = row_versions(shop)
    worn = sum("item-003" in items for items in shop.items_of().values())
    [(sha256,)] = shop.rows("SELECT image_sha256 FROM item WHERE item_id = 'item-003'")
    quarantine = "UPDATE item SET image_sha256 = %s, quarantine_reason = %s WHERE item_id = %s"
    shop.rows(quarantine, None, "bad", "item-003")
    result = shop.run("embed", embed)
    assert (result.items, result.rows_written) == (59, 0)
    assert len(row_versions(shop)) == len(rows) - 1 - worn
    shop.rows(quarantine, sha256, None, "item-003")
    result = shop.run("embed", embed)
    assert (result.items, result.rows_written) == (60, 1 + worn)
    assert row_versions(shop).keys() == rows.keys()
    check_postgres(shop, "outfit")


@pytest.mark.parametrize("moment", ["register_embedding_set", "mark_loaded"])
def test_killed_between_the_file_and_postgres(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the file is registered, and before the transaction that loads it is committed."""
    change_picture(shop, "item-003", by="item-004")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        module = {"register_embedding_set": "embeddings", "mark_loaded": "embed"}[moment]
        patch.setattr(f"recjob.jobs.{module}.{moment}", die)
        with pytest.raises(KeyboardInterrupt):
            shop.run("embed", embed)
    result = shop.run("embed", embed)
    assert result.new_items == (moment == "register_embedding_set")
    check_postgres(shop, "outfit")
    assert shop.run("embed", embed).rows_written == 0


def test_vectors_of_users_who_came_and_went(shop: Shop) -> None:
    shop.rows(
        "UPDATE user_embedding SET user_key = 1000000 WHERE user_key = "
        "(SELECT min(user_key) FROM user_embedding)"
    )
    assert shop.run("embed", embed).rows_written == 1
    check_postgres(shop, "user")


def test_an_index_that_finds_too_little_is_refused(shop: Shop) -> None:
    path = Path(trained_index(shop))
    before = path.read_bytes()
    index = shop.settings.index.model_copy(
        update={"kind": "ivf", "lists": 40, "probes": 1, "recall_floor": 1.0}
    )
    strict = dataclasses.replace(shop, settings=shop.settings.model_copy(update={"index": index}))
    with pytest.raises(RefusedError, match=r"raise index\.probes"):
        strict.run("embed", embed)
    assert path.read_bytes() == before
    assert shop.rows("SELECT outcome FROM job_run ORDER BY run_id")[-1] == ("refused",)
    kind = index.model_copy(update={"probes": 40})
    exact = dataclasses.replace(shop, settings=shop.settings.model_copy(update={"index": kind}))
    result = exact.run("embed", embed)
    assert (result.index_kind, result.index_recall, result.index_built) == ("ivf", 1.0, True)


def trained_index(shop: Shop) -> Path:
    return (
        shop.settings.home
        / "artifacts"
        / "indexes"
        / shop.model_folder("student").name
        / "outfits.faiss"
    )
