"""A file that is not the one registered is never used: one changed bit, and the night ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recjob.errors import DataError, RecjobError
from recjob.jobs.distill import distill
from recjob.jobs.embed import embed
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.workspace import on_database
from recjob.settings import NightlySettings
from tests.fixtures_shop import Shop


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """One bit in the middle; the file itself, since copies of a shop share theirs."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    path.unlink()
    path.write_bytes(damaged)
    yield
    path.write_bytes(whole)


def test_what_the_night_reads(shop: Shop) -> None:
    folder = shop.model_folder("student")
    [vectors] = folder.glob("embeddings-*.safetensors")
    for name in (
        "model.safetensors",
        "users.safetensors",
        "users.json",
        "model.json",
        "training.json",
        "manifest.json",
        "compile.json",
        vectors.name,
    ):
        with changed(folder / name), pytest.raises(DataError, match=f"{name}: .*sha256 differs"):
            shop.run("nightly-recommend", nightly_recommend)
    shop.run("nightly-recommend", nightly_recommend)


def test_the_message_says_what_makes_the_file_anew(shop: Shop) -> None:
    folder = shop.model_folder("student")
    [vectors] = folder.glob("embeddings-*.safetensors")
    for name, remedy in {
        "model.safetensors": "or train again$",
        "compile.json": f"or run `python cli.py compile --model {folder.name}`$",
        vectors.name: "or remove it, and the next `embed` computes all vectors again$",
    }.items():
        with changed(folder / name), pytest.raises(DataError, match=remedy):
            shop.run("nightly-recommend", nightly_recommend)
    shop.run("nightly-recommend", nightly_recommend)
    lists = shop.lists()
    vectors.unlink()
    night = shop.run("nightly-recommend", nightly_recommend)
    assert (night.new_items, night.new_outfits) > (0, 0)
    assert shop.lists() == lists
    embedded = shop.run("embed", embed)
    assert (embedded.new_items, embedded.new_outfits) == (0, 0)


def test_what_a_training_reads(shop: Shop) -> None:
    for role in ("teacher", "autoencoder"):
        with (
            changed(shop.model_folder(role) / "model.safetensors"),
            pytest.raises(DataError, match=r"model.safetensors: .*sha256 differs"),
        ):
            shop.run("distill", on_database(distill))


def test_the_index(shop: Shop) -> None:
    shop.run("embed", embed)
    searching = shop.settings.model_copy(update={"nightly": NightlySettings(search="index", k=10)})
    by_index = dataclasses.replace(shop, settings=searching)
    by_index.run("nightly-recommend", nightly_recommend)
    [index] = (shop.settings.home / "artifacts" / "indexes").rglob("outfits.faiss")
    with changed(index), pytest.raises(RecjobError, match="does not match its list of ids"):
        by_index.run("nightly-recommend", nightly_recommend)
