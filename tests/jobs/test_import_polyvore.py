"""Polyvore-U into a real catalog, with its own parts and negatives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from sqlalchemy import text

from recjob.catalog.catalog import Int32Array
from recjob.catalog.split import Part, split_parts
from recjob.errors import DataError
from recjob.jobs.import_polyvore import import_polyvore
from recjob.jobs.import_tables import ImportResult
from recjob.jobs.runner import run_job
from recjob.settings import ImageSettings, Settings, SplitSettings
from recjob.store.catalog_store import read_catalog, read_keys
from recjob.store.database import Database
from recjob.store.evaluation_lists import read_given_negatives
from recjob.store.forgotten import forget_user
from tests.catalog.polyvore_trees import COUNTS, Tree, write_tree

IMAGES = ImageSettings(size=64, workers=2)
VALIDATION = (Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT)


def imported(database: Database, settings: Settings, folder: Path, users: int) -> ImportResult:
    body = partial(import_polyvore, folder=folder, users=users)
    return run_job("import", database, settings.model_copy(update={"images": IMAGES}), body)


def parts_in_database(database: Database) -> set[tuple[str, frozenset[str], str]]:
    """User, items and part of every positive as the split of kind files gives it."""
    with database.connect() as connection:
        catalog = read_catalog(connection)
    parts = split_parts(catalog, SplitSettings(kind="files"))
    words = {Part.TRAIN: "train", Part.TEST: "test"} | dict.fromkeys(VALIDATION, "validation")
    return {
        (
            catalog.user_ids[user],
            frozenset(catalog.item_ids[item] for item in catalog.outfit_items[outfit] if item >= 0),
            words[Part(part)],
        )
        for (user, outfit), part in zip(catalog.positives, parts, strict=True)
    }


def negatives_in_database(
    database: Database,
) -> dict[tuple[str, frozenset[str], str], list[frozenset[str]]]:
    """By user and items of the positive, and kind: the negatives in order."""
    with database.connect() as connection:
        catalog, keys = read_catalog(connection), read_keys(connection)
        given = read_given_negatives(connection, catalog, keys)

    def names(items: Int32Array) -> frozenset[str]:
        return frozenset(catalog.item_ids[item] for item in items if item >= 0)

    found: dict[tuple[str, frozenset[str], str], list[frozenset[str]]] = {}
    for positive, hard, items in zip(given.positive, given.hard, given.items, strict=True):
        user, outfit = catalog.positives[positive]
        kind = "hard" if hard else "random"
        key = (catalog.user_ids[user], names(catalog.outfit_items[outfit]), kind)
        found.setdefault(key, []).append(names(items))
    return found


@pytest.mark.parametrize(
    ("users", "form", "packed"), [(630, "released", False), (519, "later", True)]
)
def test_parts_and_negatives_are_those_of_the_files(
    users: int,
    form: Literal["released", "later"],
    packed: bool,
    database: Database,
    database_settings: Settings,
    tmp_path: Path,
) -> None:
    tree = write_tree(tmp_path / "polyvore", users, form, packed)
    result = imported(database, database_settings, tree.folder, users)
    assert result.quarantined == ()
    assert result.pictures_decoded == result.items.added == sum(COUNTS.values())
    assert result.interactions.added == len(tree.positives())
    assert parts_in_database(database) == set(tree.positives())
    liked = {(user, outfit): part for user, outfit, part in tree.positives()}
    # What a user likes, in whichever part, is no negative of that user.
    ranked = {
        key: [outfit for outfit in outfits if (key[0], outfit) not in liked]
        for key, outfits in tree.negatives().items()
        if liked[key[:2]] != "train"
    }
    assert negatives_in_database(database) == ranked
    again = imported(database, database_settings, tree.folder, users)
    assert (again.items.added, again.items.updated, again.pictures_decoded) == (0, 0, 0)
    assert again.interactions.unchanged == len(tree.positives())


def test_newcomers_share_the_items_of_the_main_set(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "polyvore", 630)
    imported(database, database_settings, tree.folder, 630)
    newcomers = Tree(tree.folder, 53, tree.names, tree.rows)
    tree.home.rename(newcomers.home)
    result = imported(database, database_settings, tree.folder, 53)
    assert result.items.unchanged == sum(COUNTS.values())
    assert (result.outfits.added, result.users.added) == (0, len(np.unique(users_of(tree))))
    assert parts_in_database(database) == {*tree.positives(), *newcomers.positives()}


def users_of(tree: Tree) -> list[str]:
    return [user for user, _, _ in tree.positives()]


def test_a_mistake_in_the_last_file_imports_nothing(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "polyvore", 630)
    path = tree.home / "tuples_test_nega_hard"
    path.write_text(path.read_text() + "4,0,0\n")
    lines = path.read_text().count("\n")
    with pytest.raises(DataError, match=f"nega_hard, line {lines}, column 4"):
        imported(database, database_settings, tree.folder, 630)
    with database.connect() as connection:
        for table in ("item", "outfit", "app_user", "interaction"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    assert not (database_settings.home / "images").exists()


def test_a_missing_picture_is_quarantined(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "polyvore", 630)
    (tree.folder / "images" / "291x291" / tree.names["bottom"][2]).unlink()
    result = imported(database, database_settings, tree.folder, 630)
    [bad] = result.quarantined
    assert bad.item == tree.names["bottom"][2].removesuffix(".jpg")
    assert bad.reason == "no such file"


def test_a_forgotten_user_does_not_come_back(
    database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "set")
    user, _, _ = tree.positives()[0]
    before = imported(database, database_settings, tree.folder, tree.users)
    with database.begin() as connection:
        assert forget_user(connection, user)["given_negative"] > 0
    again = imported(database, database_settings, tree.folder, tree.users)
    assert (again.users.added, again.interactions.added, again.forgotten.users) == (0, 0, 1)
    assert again.negatives < before.negatives
    kept = {positive for positive in tree.positives() if positive[0] != user}
    assert parts_in_database(database) == kept
    assert {of for of, _, _ in negatives_in_database(database)} == {of for of, _, _ in kept}
