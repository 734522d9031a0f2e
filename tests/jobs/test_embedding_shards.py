"""Embedding that is cut short goes on where it was, and ends with the same bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recjob.inference.embedding import embed_items
from recjob.jobs.embed import embed
from recjob.jobs.embedding_shards import Leftovers, plan_shards
from recjob.store.work_files import WorkFolder
from tests.fixtures_shop import Shop

BATCH, SHARD = 8, 14
"""So a shard is two batches, 16, and sixty items are three of them and a rest."""


@pytest.mark.parametrize(
    ("n", "shard", "batch", "expected"),
    [
        (10, 4, 2, [(0, 4), (4, 8), (8, 10)]),
        (10, 3, 2, [(0, 4), (4, 8), (8, 10)]),
        (10, 1, 256, [(0, 10)]),
        (0, 4, 2, []),
    ],
)
def test_shards_are_whole_batches(
    n: int, shard: int, batch: int, expected: list[tuple[int, int]]
) -> None:
    assert [(part.start, part.stop) for part in plan_shards(n, shard, batch)] == expected


@pytest.fixture
def bare(shop: Shop) -> Shop:
    """The shop before its first `embed`, with small shards."""
    forget(shop)
    settings = shop.settings
    return dataclasses.replace(
        shop,
        settings=settings.model_copy(
            update={
                "embed": settings.embed.model_copy(update={"batch_size": BATCH}),
                "nightly": settings.nightly.model_copy(update={"shard_items": SHARD}),
            }
        ),
    )


def forget(shop: Shop) -> None:
    for table in ("embedding_set", "item_feature", "outfit_embedding", "user_embedding"):
        shop.rows(f"DELETE FROM {table}")
    for file in shop.model_folder("student").glob("embeddings*"):
        file.unlink()


def saved(shop: Shop) -> str:
    [(sha256, loaded)] = shop.rows("SELECT sha256, loaded_sha256 FROM embedding_set")
    assert loaded == sha256
    return str(sha256)


def work(shop: Shop) -> list[Path]:
    return sorted(
        path for path in (shop.settings.home / "artifacts" / "work").rglob("*") if path.is_file()
    )


def kill_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    """The job ends right after its shard number `shards` was saved."""
    write, left = Leftovers.write, shards

    def dying(self: Leftovers, *arguments: object) -> None:
        nonlocal left
        write(self, *arguments)  # type: ignore[arg-type]
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Leftovers, "write", dying)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that each call of `embed_items` gets from now on."""
    rows: list[int] = []

    def counting(
        engine: object, pixels: object, wanted: NDArray[np.int64], *rest: object
    ) -> object:
        rows.append(len(wanted))
        return embed_items(engine, pixels, wanted, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("recjob.jobs.embeddings.embed_items", counting)
    return rows


def test_killed_and_started_again_gives_the_same_bits(
    bare: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.run("embed", embed)
    undisturbed = saved(bare)
    for shards in (1, 3, 4, 6):  # the fourth ends the items
        forget(bare)
        with monkeypatch.context() as patch:
            kill_after(patch, shards)
            with pytest.raises(KeyboardInterrupt):
                bare.run("embed", embed)
        assert len(work(bare)) == shards
        with monkeypatch.context() as patch:
            computed = counted(patch)
            result = bare.run("embed", embed)
        assert computed == [16, 16, 16, 12][shards:]
        assert result.new_items == 60
        assert saved(bare) == undisturbed
        assert work(bare) == []


def test_damaged_leftovers_are_computed_again(bare: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.run("embed", embed)
    undisturbed = saved(bare)
    forget(bare)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            bare.run("embed", embed)
    first, second, _ = work(bare)
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:100])
    computed = counted(monkeypatch)
    bare.run("embed", embed)
    assert sorted(computed) == [12, 16, 16]
    assert saved(bare) == undisturbed
    assert work(bare) == []


def test_what_other_models_and_engines_left_is_not_used(tmp_path: Path, bare: Shop) -> None:
    folder = WorkFolder(bare.settings.home / "artifacts", "", "embed")
    model_id = bare.model_folder("student").name
    keys = np.ones((2, 32), np.uint8)
    for model, engine in (("gone", "torch cpu fp32"), (model_id, "tensorrt")):
        Leftovers(folder, model, engine).write("items", keys, np.ones((2, 128), np.float32))
    ours = Leftovers(folder, model_id, "torch cpu fp32")
    assert len(ours.read("items")[0]) == 0
    assert [path.parent.name for path in work(bare)] == ["gone"]
    bare.run("embed", embed)
    assert work(bare) == []


def test_one_picture_of_many_items_is_computed_once(
    bare: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = bare.rows("SELECT image_sha256 FROM item WHERE item_id = 'item-004'")[0][0]
    bare.rows("UPDATE item SET image_sha256 = %s WHERE item_id < 'item-009'", sha256)
    computed = counted(monkeypatch)
    result = bare.run("embed", embed)
    same = len(bare.rows("SELECT 1 FROM item WHERE image_sha256 = %s", sha256))
    assert same > 5
    assert result.new_items == 60
    assert sum(computed) == 60 - same + 1
    vectors = {vector for (vector,) in bare.rows("SELECT vector::text FROM item_feature")}
    assert len(vectors) == 60 - same + 1
