"""Evaluation lists through a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.list_files import read_lists, write_lists
from recjob.catalog.split import Part, split_parts
from recjob.errors import DataError
from recjob.settings import SplitSettings
from tests.catalog.shops import random_shop

CATALOG = random_shop(np.random.default_rng(0), quarantined=2)
LISTS = evaluation_lists(CATALOG, split_parts(CATALOG, SplitSettings()), Part.TEST, 4, 9)


def assert_equal(found: EvaluationLists, expected: EvaluationLists) -> None:
    np.testing.assert_array_equal(found.user, expected.user)
    np.testing.assert_array_equal(found.items, expected.items)
    assert found.user.dtype == found.items.dtype == np.dtype(np.int32)
    assert found.left_out == expected.left_out


def test_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    write_lists(path, CATALOG, LISTS, 9)
    assert_equal(read_lists(path, CATALOG), LISTS)
    assert pq.read_schema(path).metadata[b"seed"] == b"9"
    assert [file.name for file in tmp_path.iterdir()] == ["lists.parquet"]


def test_ids_not_indices(tmp_path: Path) -> None:
    """In a catalog that has grown at its front the same ids have other indices."""
    path = tmp_path / "lists.parquet"
    write_lists(path, CATALOG, LISTS, 9)
    grown = dataclasses.replace(
        CATALOG,
        item_ids=("a", *CATALOG.item_ids),
        user_ids=("a", "b", *CATALOG.user_ids),
    )
    found = read_lists(path, grown)
    np.testing.assert_array_equal(found.user, LISTS.user + 2)
    np.testing.assert_array_equal(found.items, np.where(LISTS.items < 0, -1, LISTS.items + 1))


def test_no_lists(tmp_path: Path) -> None:
    none = EvaluationLists(np.empty(0, np.int32), np.empty((0, 5, 4), np.int32), 3)
    write_lists(tmp_path / "lists.parquet", CATALOG, none, 0)
    assert_equal(read_lists(tmp_path / "lists.parquet", CATALOG), none)


def test_other_data_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    with pytest.raises(DataError, match="no such file"):
        read_lists(path, CATALOG)
    write_lists(path, CATALOG, LISTS, 9)
    fewer = dataclasses.replace(CATALOG, user_ids=CATALOG.user_ids[:2])
    with pytest.raises(DataError, match=r"user 'u0.*' is not in these data"):
        read_lists(path, fewer)
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(DataError, match="no file of evaluation lists"):
        read_lists(path, CATALOG)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no file of evaluation lists"):
        read_lists(path, CATALOG)
