"""Vectors are computed once, and are the same in the artifact, in Postgres and in FAISS."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest

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
    table, names = {"outfit": ("outfit", "outfit_id"), "user": ("app_user", "user_id")}[entity]
    stored = {
        name: np.array(json.loads(vector))
        for name, vector in trained_shop.rows(
            f"SELECT {names}, vector::text FROM {entity}_embedding JOIN {table} "
            f"USING ({entity}_key)"
        )
    }
    truth = {
        "outfit": trained_shop.outfit_vectors,
        "user": trained_shop.user_vectors,
    }[entity]()
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


def test_a_second_time_computes_nothing(shop: Shop) -> None:
    before = shop.outfit_vectors()
    result = shop.run("embed", embed)
    assert (result.new_items, result.new_outfits) == (0, 0)
    assert (result.items, result.users) == (60, 12)
    after = shop.outfit_vectors()
    assert all((after[outfit] == vector).all() for outfit, vector in before.items())


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
    images = shop.folder / "shop" / "images"
    before = shop.outfit_vectors()
    items = shop.items_of()
    (images / "item-003.jpg").write_bytes((images / "item-004.jpg").read_bytes() + b"new")
    shop.run("import", partial(import_tables, folder=shop.folder / "shop"))
    result = shop.run("embed", embed)
    touched = {outfit for outfit, worn in items.items() if "item-003" in worn}
    assert (result.new_items, result.new_outfits) == (1, len(touched))
    after = shop.outfit_vectors()
    changed = {outfit for outfit, vector in before.items() if (after[outfit] != vector).any()}
    assert changed == touched
    assert touched
