"""Data sets from one form into the next: nothing is lost on the way, and nothing half written."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.table_parts import with_parts
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError, UserError
from recjob.jobs.convert import ConvertResult, SourceKind, TargetKind, convert
from recjob.settings import CatalogSettings, Settings
from tests.catalog.polyvore_trees import COUNTS, jpeg, write_tree
from tests.command_line import Run

KEYS = ("user_id", "outfit_id", "part")
PICTURES = sum(COUNTS.values())


def converted(
    source: Path,
    target: Path,
    source_kind: SourceKind,
    target_kind: TargetKind,
    users: int | None = None,
    link: bool = False,
) -> ConvertResult:
    return convert(source, target, source_kind, target_kind, users, link, Settings())


@pytest.mark.parametrize("users", [630, 519])
def test_round_trip(users: int, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old", users, "later", packed=True)
    results = [
        converted(tree.folder, tmp_path / "csv", "polyvore", "csv", users),
        converted(tmp_path / "csv", tmp_path / "parquet", "tables", "parquet"),
        converted(tmp_path / "parquet", tmp_path / "new", "tables", "polyvore", users),
    ]
    before, after = read_polyvore(tree.folder, users), read_polyvore(tmp_path / "new", users)
    for name in ("items", "outfits", "interactions", "users", "negatives"):
        assert getattr(after, name).equals(getattr(before, name)), name
    released = write_tree(tmp_path / "released", users)
    for name in released.rows:
        new = tmp_path / "new" / released.home.name / name
        assert new.read_bytes() == (released.home / name).read_bytes()
    assert len({(result.items, result.outfits, result.interactions) for result in results}) == 1
    assert [result.negatives for result in results] == [2 * 10 * (24 + 6 + 8)] * 3
    for result, folder in zip(results, ("csv", "parquet", "new"), strict=True):
        assert (result.pictures, result.missing_pictures) == (PICTURES, ())
        images = (tmp_path / folder / "images" / "291x291").iterdir()
        assert sorted(path.read_bytes() for path in images) == sorted(map(jpeg, range(PICTURES)))


def test_csv_is_what_other_programs_read(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old", 519)
    converted(tree.folder, tmp_path / "csv", "polyvore", "csv", 519)
    with (tmp_path / "csv" / "outfits.csv").open(newline="") as file:
        outfits = {row["outfit_id"]: row["item_ids"] for row in csv.DictReader(file)}
    with (tmp_path / "csv" / "interactions.csv").open(newline="") as file:
        found = [
            (row["user_id"], frozenset(outfits[row["outfit_id"]].split("|")), row["part"])
            for row in csv.DictReader(file)
        ]
    assert found == tree.positives()


def test_data_without_parts_get_those_of_the_settings(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old")
    converted(tree.folder, tmp_path / "csv", "polyvore", "csv", 630)
    (tmp_path / "csv" / "negatives.csv").unlink()
    path = tmp_path / "csv" / "interactions.csv"
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    converted(tmp_path / "csv", tmp_path / "new", "tables", "polyvore", 630)
    found = read_polyvore(tmp_path / "new", 630)
    wanted = with_parts(read_folder(tmp_path / "csv", CatalogSettings()), Settings().split)

    def rows(tables: FolderTables) -> list[tuple[str, str, str]]:
        keys = zip(*(tables.interactions[name].to_pylist() for name in KEYS), strict=True)
        return sorted((user, outfit, part.split("-")[0]) for user, outfit, part in keys)

    assert rows(found) == rows(wanted)


def test_links_are_the_same_files(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old")
    converted(tree.folder, tmp_path / "new", "polyvore", "parquet", 630, link=True)
    name = tree.names["top"][0]
    old, new = (folder / "images" / "291x291" / name for folder in (tree.folder, tmp_path / "new"))
    assert old.samefile(new)
    # A packed picture is no file that could be linked.
    packed = write_tree(tmp_path / "packed", packed=True)
    result = converted(packed.folder, tmp_path / "unpacked", "polyvore", "csv", 630, link=True)
    assert result.pictures == PICTURES


def test_a_missing_picture_is_told(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old")
    image = f"images/291x291/{tree.names['shoe'][3]}"
    (tree.folder / image).unlink()
    result = converted(tree.folder, tmp_path / "new", "polyvore", "csv", 630)
    assert result.pictures == PICTURES - 1
    [missing] = result.missing_pictures
    assert (missing.image, missing.reason) == (image, "no such file")


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree(tmp_path / "old")
    (tree.home / "tuples_test_nega_hard").write_text("user,top,bottom,shoe\n0,0,0,99\n")
    with pytest.raises(DataError, match="line 2, column 4"):
        converted(tree.folder, tmp_path / "new", "polyvore", "csv", 630)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tree.home / "tuples_test_nega_hard").unlink()
    monkeypatch.setattr("recjob.jobs.convert.copy_pictures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        converted(tree.folder, tmp_path / "new", "polyvore", "csv", 630)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_what_is_there_stays(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old")
    target = tmp_path / "new"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(UserError, match="new: is not empty; name a new folder"):
        converted(tree.folder, target, "polyvore", "csv", 630)
    (target / "mine").unlink()
    converted(tree.folder, target, "polyvore", "csv", 630)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="file: is there already"):
        converted(tree.folder, file, "polyvore", "csv", 630)


def test_commands(command: Run, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old", 53)
    old = str(tree.folder)
    ended = command("convert", old, "new", "--from", "polyvore", "--to", "csv", "--json")
    assert ended.error(2) == "--from polyvore needs --users: 630, 519, 53 or 32"
    options = ("--from", "polyvore", "--users", "53")
    ended = command("convert", old, "new", *options, "--to", "polyvore")
    assert ended.error(2).startswith("--from polyvore --to polyvore would change nothing")
    ended = command("convert", old, "new", *options, "--to", "csv", "--json")
    assert (ended.json["items"], ended.json["pictures"]) == (PICTURES, PICTURES)
    ended = command("convert", "new", "old", "--from", "tables", "--to", "parquet")
    assert ended.error(2) == "old: is not empty; name a new folder"
    ended = command("convert", "new", "3", "--from", "tables", "--to", "csv", "--users", "53")
    assert ended.error(2) == "--users belongs to polyvore; leave it out"


def test_the_example_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text("utf-8")
    [example] = re.findall(r"<!-- example: convert.py -->\n```python\n(.*?)```", page, re.DOTALL)
    garments = [
        {"id": f"{kind}-{number}", "kind": kind, "photo": f"{kind}, {number}.jpg"}
        for kind in ("top", "shoes")
        for number in range(2)
    ]
    looks = [
        {"user": "anna", "part": "train", "garments": garments[::2]},
        {"user": "ben", "part": "test", "garments": garments[1:3]},
    ]
    (tmp_path / "looks.json").write_text(json.dumps(looks))
    (tmp_path / "looks" / "photos").mkdir(parents=True)
    for number, garment in enumerate(garments):
        (tmp_path / "looks" / "photos" / garment["photo"]).write_bytes(jpeg(number))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "convert.py", "exec"), {})
    tables = read_folder(tmp_path / "looks", CatalogSettings())
    assert tables.outfits["item_ids"].to_pylist() == [["top-0", "shoes-0"], ["top-1", "shoes-0"]]
    assert tables.interactions.select(["user_id", "outfit_id", "part"]).to_pylist() == [
        {"user_id": "anna", "outfit_id": "0", "part": "train"},
        {"user_id": "ben", "outfit_id": "1", "part": "test"},
    ]
    assert [tables.pictures.read(image, 9999) for image in tables.items["image"].to_pylist()] == [
        jpeg(number) for number in (0, 2, 1)
    ]
