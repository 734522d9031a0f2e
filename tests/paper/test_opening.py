"""Data of a study: both kinds of folders, newcomers, lists that stay, pictures of two sizes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from recjob.catalog.catalog import PADDING
from recjob.errors import DataError
from recjob.paper import lists as study_lists
from recjob.paper.opening import open_study
from recjob.paper.shop import Source
from recjob.paper.study import Study
from recjob.settings import Settings
from tests.catalog.polyvore_trees import write_tree
from tests.paper.conftest import silent, tiny_settings


def changed(**sections: dict[str, Any]) -> Settings:
    values = tiny_settings().model_dump()
    for section, update in sections.items():
        values[section] |= update
    return Settings.model_validate(values)


def test_the_same_folder_is_the_same_study(
    study: Study, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn_again(*_: object, **__: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(study_lists, "evaluation_lists", drawn_again)
    again = open_study(Source(drawn), study.out, study.settings, silent)
    assert (again.digest, again.newcomers_digest) == (study.digest, study.newcomers_digest)
    for kind, lists in study.lists.items():
        np.testing.assert_array_equal(again.lists[kind].items, lists.items)


def test_lists_are_kept_with_their_seed(study: Study) -> None:
    files = sorted(path.name.split("-")[0] for path in (study.out / "lists").glob("*.parquet"))
    assert files == ["test", "test", "validation"]
    for path in (study.out / "lists").glob("*.parquet"):
        assert pq.read_schema(path).metadata[b"seed"] == b"1"


def test_other_seeds_and_splits_are_other_studies(study: Study, drawn: Path) -> None:
    for settings in (
        changed(split={"key": "other"}),
        Settings(**vars(study.settings) | {"seed": 2}),
    ):
        other = open_study(Source(drawn), study.out, settings, silent)
        assert other.digest != study.digest


def test_newcomers_wear_the_shops_items(study: Study) -> None:
    assert study.newcomers is not None
    catalog = study.newcomers.student.catalog
    assert catalog.item_ids == study.data.catalog.item_ids
    assert all(user.startswith("newcomer") for user in catalog.user_ids)
    assert not set(catalog.user_ids) & set(study.data.catalog.user_ids)


def test_no_newcomers(drawn: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(drawn, tmp_path / "alone")
    assert open_study(Source(alone), tmp_path / "out", tiny_settings(), silent).newcomers is None


def test_newcomers_with_items_of_their_own_are_refused(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="newcomers wear the items of"):
        open_study(Source(drawn, cold=drawn), tmp_path, tiny_settings(), silent)


def test_the_teacher_may_see_larger_pictures(drawn: Path, tmp_path: Path) -> None:
    settings = changed(teacher={"image_size": 96})
    study = open_study(Source(drawn), tmp_path, settings, silent)
    assert study.data.pixels.shape[1:] == (64, 64, 3)
    assert study.teacher_data.pixels.shape[1:] == (96, 96, 3)
    assert study.newcomers is not None
    assert study.newcomers.teacher.pictures.size == 96


def test_polyvore_with_its_own_split_negatives_and_newcomers(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "data", 630)
    newcomers = write_tree(tmp_path / "other", 53)
    newcomers.home.rename(tmp_path / "data" / newcomers.home.name)  # of the same pictures
    settings = changed(split={"kind": "files"}, users={"min_training_positives": 1})
    study = open_study(Source(tmp_path / "data", 630), tmp_path / "out", settings, silent)
    catalog = study.data.catalog
    negatives = tree.negatives()

    def ids(items: np.typing.NDArray[np.int32]) -> frozenset[str]:
        return frozenset(catalog.item_ids[item] for item in items if item != PADDING)

    liked = {(user, items) for user, items, _ in tree.positives()}
    for kind, lists in study.lists.items():
        for user, outfits in zip(lists.user, lists.items, strict=True):
            name = catalog.user_ids[user]
            given = negatives[(name, ids(outfits[0]), kind)]
            own = [items for items in given if (name, items) not in liked]
            assert [ids(outfit) for outfit in outfits[1 : 1 + len(own)]] == own
    assert study.newcomers is not None
    assert all(user.startswith("53-") for user in study.newcomers.student.catalog.user_ids)
    assert study.users == 630
    alone = replace(Source(tmp_path / "data", 53))
    assert open_study(alone, tmp_path / "out", settings, silent).newcomers is None
