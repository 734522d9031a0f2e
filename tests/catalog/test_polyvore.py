"""Polyvore-U: both forms and sizes read to the same truth; every mistake is found before a row."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.tables import FolderTables
from recjob.errors import DataError
from tests.catalog.polyvore_trees import COUNTS, Tree, jpeg, later, write_tree

LISTED = sum(COUNTS.values())


def positives(tables: FolderTables) -> list[tuple[str, frozenset[str], str]]:
    """User, items and part of every positive, in the order of the table."""
    items = {row["outfit_id"]: frozenset(row["item_ids"]) for row in tables.outfits.to_pylist()}
    return [
        (row["user_id"], items[row["outfit_id"]], row["part"])
        for row in tables.interactions.to_pylist()
    ]


def negatives(tables: FolderTables) -> dict[tuple[str, frozenset[str], str], list[frozenset[str]]]:
    """By user and items of the positive, and kind: the negatives in order."""
    items = {row["outfit_id"]: frozenset(row["item_ids"]) for row in tables.outfits.to_pylist()}
    found: dict[tuple[str, frozenset[str], str], list[frozenset[str]]] = {}
    for row in tables.negatives.to_pylist():
        key = (row["user_id"], items[row["outfit_id"]], row["kind"])
        assert len(set(row["item_ids"])) == len(row["item_ids"])
        found.setdefault(key, []).append(frozenset(row["item_ids"]))
    return found


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "lmdb"])
@pytest.mark.parametrize("form", ["released", "later"])
@pytest.mark.parametrize("users", [630, 519])
def test_both_forms_and_sizes(
    users: int, form: Literal["released", "later"], packed: bool, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path, users, form, packed)
    tables = read_polyvore(tmp_path, users)
    assert positives(tables) == tree.positives()
    assert negatives(tables) == tree.negatives()
    assert tables.users.num_rows == 0
    listed = [name for lines in tree.names.values() for name in lines]
    assert tables.items["item_id"].to_pylist() == [name.removesuffix(".jpg") for name in listed]
    assert tables.items["category"].value_counts().to_pylist() == [
        {"values": kind, "counts": count} for kind, count in COUNTS.items()
    ]
    read = [tables.pictures.read(image, 10_000) for image in tables.items["image"].to_pylist()]
    assert read == [jpeg(number) for number in range(LISTED)]


def test_it_is_a_catalog(tmp_path: Path) -> None:
    write_tree(tmp_path, 519)
    tables = read_polyvore(tmp_path, 519)
    catalog = to_catalog(tables, ["ab"] * LISTED)
    assert catalog.n_items == LISTED
    assert len(catalog.positives) == tables.interactions.num_rows


def test_sets_share_ids_of_items_and_outfits(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 630)
    newcomers = Tree(tmp_path, 53, tree.names, tree.rows)
    newcomers.home.mkdir()
    # The newcomers' lists are in another order, so that indices differ.
    for kind, names in tree.names.items():
        lines = list(reversed(names))
        (newcomers.home / f"image_list_{kind}").write_text("\n".join(lines))
    row = tree.rows["tuples_train_posi"][0]
    cells = [COUNTS[kind] - 1 - row[place] for kind, place in zip(COUNTS, (1, 3, 4), strict=True)]
    text = f"user,top,bottom,shoe\n52,{cells[0]},{cells[1]},{cells[2]}\n"
    (newcomers.home / "tuples_train_posi").write_text(text)
    main, new = read_polyvore(tmp_path, 630), read_polyvore(tmp_path, 53)
    assert new.outfits["outfit_id"][0] == main.outfits["outfit_id"][0]
    assert set(new.items["item_id"].to_pylist()) == set(main.items["item_id"].to_pylist())
    assert new.interactions["user_id"].to_pylist() == ["53-52"]


def test_absent_files_are_absent_parts(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    for name in ("val_posi", "val_nega", "val_nega_hard", "test_nega_hard", "train_nega"):
        (tree.home / f"tuples_{name}").unlink()
    tables = read_polyvore(tmp_path, 630)
    assert positives(tables) == [found for found in tree.positives() if found[2] != "validation"]
    kinds = {(row["kind"]) for row in tables.negatives.to_pylist()}
    assert kinds == {"random", "hard"}
    assert tables.negatives.num_rows == 10 * 8 + 10 * 24


def test_an_import_leaves_the_negatives_of_training_out(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    train = {(user, outfit) for user, outfit, part in tree.positives() if part == "train"}
    tables = read_polyvore(tmp_path, 630, training_negatives=False)
    wanted = {key: rows for key, rows in tree.negatives().items() if key[:2] not in train}
    assert negatives(tables) == wanted


def test_windows_line_ends_blank_lines_and_what_pandas_makes_of_a_header(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 519)
    for name in tree.rows:
        path = tree.home / name
        text = path.read_text().replace("user,top,top,", "user,top,top.1,")
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    for kind in COUNTS:
        path = tree.home / f"image_list_{kind}"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert positives(read_polyvore(tmp_path, 519)) == tree.positives()


def test_an_item_twice_in_an_outfit_is_there_once(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 519)
    path = tree.home / "tuples_test_nega"
    lines = path.read_text().splitlines()
    user = lines[1].split(",")[0]
    lines[1] = f"{user},3,3,2,1"
    path.write_text("\n".join(lines))
    (tree.home / "tuples_val_nega").unlink()
    (tree.home / "tuples_val_nega_hard").unlink()
    tables = read_polyvore(tmp_path, 519, training_negatives=False)
    chosen = (("top", 3), ("bottom", 2), ("shoe", 1))
    wanted = [tree.names[kind][index].removesuffix(".jpg") for kind, index in chosen]
    assert tables.negatives["item_ids"][0].as_py() == wanted


def test_a_name_in_two_lists_is_two_items_with_one_picture(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    path = tree.home / "image_list_shoe"
    lines = path.read_text().splitlines()
    lines[2], lines[4] = tree.names["top"][1], lines[5]
    path.write_text("\n".join(lines))
    items = read_polyvore(tmp_path, 630).items.to_pylist()
    stem = tree.names["top"][1].removesuffix(".jpg")
    both = [row for row in items if row["item_id"].startswith(stem)]
    assert [(row["item_id"], row["category"]) for row in both] == [
        (stem, "top"),
        (f"{stem}-shoe", "shoe"),
    ]
    assert both[0]["image"] == both[1]["image"]
    assert len(items) == LISTED - 1  # the name that stands twice in its list is one item


def test_a_positive_in_two_parts_stays_in_the_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = write_tree(tmp_path)
    row = tree.rows["tuples_train_posi"][2]
    with (tree.home / "tuples_test_posi").open("a") as file:
        # Twice, with other negatives: one positive, which keeps those of its first row.
        file.write(f"{row[0]},{row[1]},{row[3]},{row[4]}\n" * 2)
    for kind in ("nega", "nega_hard"):
        with (tree.home / f"tuples_test_{kind}").open("a") as file:
            file.write(f"{row[0]},0,0,0\n" * 10 + f"{row[0]},1,1,1\n" * 10)
    with caplog.at_level(logging.WARNING):
        tables = read_polyvore(tmp_path, 630)
    moved = tree.positives()[2]
    others = [found for found in tree.positives() if found != moved]
    assert positives(tables) == [*others, (*moved[:2], "test")]
    first = frozenset(tree.names[kind][0].removesuffix(".jpg") for kind in COUNTS)
    wanted = tree.negatives() | {(*moved[:2], kind): [first] * 10 for kind in ("random", "hard")}
    assert negatives(tables) == wanted
    [message] = caplog.messages
    assert "tuples_train_posi: 1 positives that" in message
    assert "tuples_train_posi, line 4" in message


def edit(name: str, old: str, new: str) -> Callable[[Tree], None]:
    """A mistake: `new` instead of the first match of the pattern `old`."""

    def make(tree: Tree) -> None:
        path = tree.home / name
        text, count = re.subn(old, new, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)

    return make


def cell(name: str, line: int, column: int, value: str) -> Callable[[Tree], None]:
    """A mistake: another value in a cell; lines and columns from 1."""

    def make(tree: Tree) -> None:
        path = tree.home / name
        lines = path.read_text().split("\n")
        cells = lines[line - 1].split(",")
        cells[column - 1] = value
        lines[line - 1] = ",".join(cells)
        path.write_text("\n".join(lines))

    return make


def remove(name: str) -> Callable[[Tree], None]:
    return lambda tree: (tree.home / name).unlink()


def write(name: str, content: bytes) -> Callable[[Tree], None]:
    def make(tree: Tree) -> None:
        (tree.home / name).write_bytes(content)

    return make


BROKEN = [
    (cell("tuples_train_posi", 3, 2, "9"), "tuples_train_posi, line 3, column 2 (top): 9 is out"),
    (cell("tuples_val_nega", 7, 3, "-1"), "tuples_val_nega, line 7, column 3 (bottom): -1 is out"),
    (cell("tuples_test_nega_hard", 2, 4, "8"), "hard, line 2, column 4 (shoe): 8 is out of range"),
    (cell("tuples_val_posi", 2, 1, "630"), "tuples_val_posi, line 2, column 1 (user): user 630"),
    (cell("tuples_test_posi", 5, 1, "-1"), "tuples_test_posi, line 5, column 1 (user): user -1"),
    (cell("tuples_train_nega", 4, 3, "x"), "train_nega, line 4, column 3: 'x' is no integer"),
    (cell("tuples_train_nega", 4, 3, "1.0"), "line 4, column 3: '1.0' is no integer"),
    (cell("tuples_train_nega", 4, 3, ""), "line 4, column 3: '' is no integer"),
    (cell("tuples_train_posi", 2, 3, "9" * 30), "line 2, column 3: '9999"),
    (cell("tuples_train_posi", 4, 4, "1,1"), "line 4, column 5: the line has 5 columns where 4"),
    (edit("tuples_train_posi", r"^(\d+,\d+),.*$", r"\1"), "line 2, column 3: the line has 2"),
    (cell("tuples_train_posi", 1, 3, "trousers"), "train_posi, line 1, column 3: the header"),
    (cell("tuples_val_nega", 1, 1, "User"), "tuples_val_nega, line 1, column 1: the header is"),
    (edit("tuples_val_nega", r"^user.*\n", ""), "line 1, column 4: a row without a header is"),
    (edit("tuples_val_nega", r"^\d+,.*\n", ""), "val_nega, line 60, column 1 (user): 59 neg"),
    (edit("tuples_test_nega", r"^\d+,", "77,"), "test_nega, line 2, column 1 (user): a neg"),
    (edit("image_list_top", r"^.*$", ""), "image_list_top, line 1, column 1 (name): is empty"),
    (edit("image_list_shoe", r"\.jpg$", ".png"), "shoe, line 1, column 1 (name): '"),
    (edit("image_list_shoe", r"^", "../"), "image_list_shoe, line 1, column 1 (name): '../"),
    (edit("image_list_shoe", r"^", "/etc/"), "image_list_shoe, line 1, column 1 (name): '/etc/"),
    (edit("image_list_shoe", r"^\w", "a|"), "image_list_shoe, line 1, column 1 (name): 'a|"),
    (write("image_list_top", b"a.jpg\n\xff.jpg\n"), "image_list_top, line 2, column 1 (name): not"),
    (write("image_list_top", b""), "image_list_top: is empty"),
    (write("tuples_train_posi", b""), "tuples_train_posi: is empty"),
    (write("tuples_train_posi", b"user,top,bottom,shoe\n"), "tuples_train_posi: has no rows"),
    (write("tuples_val_posi", b"\x93NUMPY\x01\x00"), "val_posi, line 1, column 1: the header"),
    (remove("tuples_train_posi"), "tuples_train_posi: no such file"),
    (remove("tuples_test_posi"), "tuples_test_posi: no such file; the negatives of"),
    (remove("image_list_bottom"), "image_list_bottom: no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), BROKEN, ids=[found for _, found in BROKEN])
def test_mistakes_are_named(mistake: Callable[[Tree], None], message: str, tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    mistake(tree)
    with pytest.raises(DataError) as caught:
        read_polyvore(tmp_path, 630)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tree.home) in str(caught.value)


BROKEN_LATER = [
    (cell("tuples_train_posi", 3, 3, "9"), "posi, line 3, column 3 (item 1): 9 is out of range"),
    (cell("tuples_train_posi", 3, 7, "3"), "posi, line 3, column 7 (type 1): type 3 is none of"),
    (cell("tuples_train_posi", 3, 2, "5"), "posi, line 3, column 2 (size): size 5 is not among"),
    (cell("tuples_train_posi", 3, 2, "0"), "posi, line 3, column 2 (size): size 0 is not among"),
    (cell("tuples_train_posi", 3, 2, "2"), "posi, line 3, column 5 (item 3): must be -1 behind"),
    (cell("tuples_train_posi", 3, 9, "-1"), "posi, line 3, column 9 (type 3): type -1 is none"),
    (cell("tuples_val_nega", 2, 1, "519"), "tuples_val_nega, line 2, column 1 (user): user 519"),
    (edit("tuples_val_posi", r"^(.*),\S+$", r"\1"), "posi, line 1, column 9: a row without a head"),
    (edit("tuples_val_posi", r"\n(.*),\S+$", r"\n\1"), "line 2, column 10: the line has 9 columns"),
]


@pytest.mark.parametrize(
    ("mistake", "message"), BROKEN_LATER, ids=[found for _, found in BROKEN_LATER]
)
def test_mistakes_in_the_later_form(
    mistake: Callable[[Tree], None], message: str, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path, 519, "later")
    mistake(tree)
    with pytest.raises(DataError) as caught:
        read_polyvore(tmp_path, 519)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, dict[Path, bytes]]:
    """A set that is damaged and mended again, and the content of its files."""
    tree = write_tree(tmp_path_factory.mktemp("fuzzed"), 519)
    files = [tree.home / name for name in (*tree.rows, *(f"image_list_{kind}" for kind in COUNTS))]
    return tree, {path: path.read_bytes() for path in files}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_damaged_one_line_says_where(
    fuzzed: tuple[Tree, dict[Path, bytes]], data: st.DataObject
) -> None:
    tree, files = fuzzed
    path = data.draw(st.sampled_from(list(files)))
    whole = files[path]
    start = data.draw(st.integers(0, len(whole) - 1))
    gone = data.draw(st.integers(0, 20))
    come = data.draw(
        st.sampled_from([b"", b",", b"\n", b"-", b'"', b"7", b"\xff", b"\0", b"1e5", b" "])
    )
    path.write_bytes(whole[:start] + come + whole[start + gone :])
    try:
        read_polyvore(tree.folder, 519)
    except DataError as error:
        found = str(error)
        assert "\n" not in found
        # Names of pictures may be too few for the tuples, and rows too few for their partners.
        assert re.search(r"/tuples_519/\w+, line \d+, column \d+", found)
    finally:
        path.write_bytes(whole)


def test_forms_may_be_mixed(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 519)
    name = "tuples_test_nega"
    (tree.home / name).write_text(later(tree.rows[name], variable=True))
    assert negatives(read_polyvore(tmp_path, 519)) == tree.negatives()


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; name the one that holds tuples_630"):
        read_polyvore(tmp_path / "nowhere", 630)
    tree = write_tree(tmp_path)
    with pytest.raises(DataError, match=r"tuples_53: no such folder; .* holds tuples_630"):
        read_polyvore(tmp_path, 53)
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(DataError, match="has no pictures; put them into images/291x291"):
        read_polyvore(tmp_path, 630)
    assert tree.home.is_dir()
