"""The commands as a shell runs them: results, messages, exit codes."""

from __future__ import annotations

import fcntl
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from PIL import Image
from rich.markup import render
from typer.main import get_command

from recjob.cli import app
from recjob.settings import Settings
from recjob.version import source_version
from tests.command_line import Ended, Run, environment
from tests.fixtures_shop import K, Shop

FILES = {
    "items.csv": (
        "item_id,category,image\nshirt,top,images/shirt.jpg\njeans,bottom,images/jeans.jpg\n"
        "boots,shoes,images/boots.jpg\n"
    ),
    "outfits.csv": "outfit_id,item_ids\nwork,shirt|jeans|boots\nwalk,jeans|boots\n",
    "interactions.csv": "user_id,outfit_id\nanna,work\nanna,walk\nben,walk\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder in the import format."""
    path = tmp_path / "data"
    (path / "images").mkdir(parents=True)
    for name, colour in (("shirt", "red"), ("jeans", "blue"), ("boots", "brown")):
        Image.new("RGB", (80, 100), colour).save(path / "images" / f"{name}.jpg")
    for name, text in FILES.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def variables(database_settings: Settings) -> dict[str, str]:
    """The environment of a fresh database and home."""
    url = database_settings.database_url
    assert url is not None
    return environment(database_settings.home, url.get_secret_value())


def count(variables: dict[str, str], table: str) -> int:
    with psycopg.connect(variables["RECJOB_DATABASE_URL"].replace("+psycopg", "")) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def assert_nothing_imported(variables: dict[str, str]) -> None:
    for table in ("item", "outfit", "outfit_item", "app_user", "interaction"):
        assert count(variables, table) == 0


# Import


def test_import_prints_what_it_did(folder: Path, variables: dict[str, str], command: Run) -> None:
    result = command("import", "tables", str(folder), "--json", variables=variables).json
    assert result["items"] == {"added": 3, "updated": 0, "unchanged": 0}
    assert result["interactions"]["added"] == 3
    assert result["quarantined"] == []
    again = command("import", "tables", str(folder), variables=variables)
    assert again.code == 0
    assert "added 0, updated 0, unchanged 3" in again.out


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert old in FILES[name]
        (folder / name).write_text(FILES[name].replace(old, new, 1))

    return change


def add(name: str, line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(FILES[name] + line + "\n")

    return change


def keep_header(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(FILES[name].splitlines()[0] + "\n")

    return change


def empty(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text("")

    return change


BAD_TABLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing column": (
        replace("items.csv", "item_id,category,image", "item_id,kind,image"),
        "{folder}/items.csv: column category is missing; the columns found are 'item_id', 'kind', "
        "'image'",
    ),
    "outfit with an unknown item": (
        replace("outfits.csv", "walk,jeans|boots", "walk,jeans|hat"),
        "{folder}/outfits.csv, line 3, column item_ids: unknown item 'hat'; add it to items, or "
        "import the items first",
    ),
    "one id with two contents": (
        add("items.csv", "shirt,shoes,images/shirt.jpg"),
        "{folder}/items.csv, line 5, column item_id: 'shirt' is there with other content before "
        "({folder}/items.csv, line 2); keep one of them",
    ),
    "one outfit id with two contents": (
        add("outfits.csv", "work,shirt"),
        "{folder}/outfits.csv, line 4, column outfit_id: 'work' is there with other content "
        "before ({folder}/outfits.csv, line 2); keep one of them",
    ),
    "no interactions": (
        keep_header("interactions.csv"),
        "{folder}/interactions.csv: has no rows; add some, or leave the file out",
    ),
    "an empty file": (
        empty("interactions.csv"),
        "{folder}/interactions.csv: is empty; its first line must name the columns",
    ),
    "a picture outside the folder": (
        replace("items.csv", "images/shirt.jpg", "../../etc/passwd"),
        "{folder}/items.csv, line 2, column image: '../../etc/passwd' leads out of the folder; "
        "pictures must lie inside it",
    ),
    "liked what does not exist": (
        add("interactions.csv", "anna,party"),
        "{folder}/interactions.csv, line 5, column outfit_id: unknown outfit 'party'; add it to "
        "outfits, or import it first",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str, folder: Path, variables: dict[str, str], command: Run) -> None:
    change, message = BAD_TABLES[name]
    change(folder)
    ended = command("import", "tables", str(folder), "--json", variables=variables)
    assert ended.error(2) == message.format(folder=folder)
    assert_nothing_imported(variables)


def test_missing_folder(tmp_path: Path, variables: dict[str, str], command: Run) -> None:
    ended = command("import", "tables", "nowhere", variables=variables)
    assert ended.error(2) == (
        "nowhere: no such folder; name the folder that holds items, outfits and so on"
    )
    assert_nothing_imported(variables)


def test_categories_where_settings_list_them(
    folder: Path, tmp_path: Path, variables: dict[str, str], command: Run
) -> None:
    replace("items.csv", "boots,shoes,", "boots,sandals,")(folder)
    (tmp_path / "recjob.toml").write_text('[catalog]\ncategories = ["top", "bottom", "shoes"]\n')
    ended = command("import", "tables", str(folder), variables=variables)
    assert ended.error(2) == (
        f"{folder}/items.csv, line 4, column category: 'sandals' is not among catalog.categories "
        "(top, bottom, shoes)"
    )
    assert_nothing_imported(variables)
    (tmp_path / "recjob.toml").unlink()
    result = command("import", "tables", str(folder), "--json", variables=variables).json
    assert result["items"]["added"] == 3  # without a list any category is welcome


def huge_png() -> bytes:
    """A whole, valid picture of 30,000 x 30,000 white pixels, one bit each."""
    side = 30_000
    row = b"\0" + b"\xff" * -(-side // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD_PICTURES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "damaged picture ("),
    "text": (lambda whole: b"a shirt, red\n", "not a picture (JPEG, PNG"),
    "empty": (lambda whole: b"", "not a picture (JPEG, PNG"),
    "huge": (
        lambda whole: huge_png(),
        "30000 x 30000 pixels are more than images.max_pixels (64000000)",
    ),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures_are_listed_and_the_job_goes_on(
    name: str, folder: Path, variables: dict[str, str], command: Run
) -> None:
    change, reason = BAD_PICTURES[name]
    path = folder / "images" / "shirt.jpg"
    path.write_bytes(change(path.read_bytes()))
    result = command("import", "tables", str(folder), "--json", variables=variables).json
    [bad] = result["quarantined"]
    assert (bad["item"], bad["image"]) == ("shirt", "images/shirt.jpg")
    assert bad["reason"].startswith(reason)
    assert result["items"]["added"] == 3
    people = command("import", "tables", str(folder), variables=variables)
    assert people.code == 0
    words = people.out.replace("│", " ").split()  # long lines are folded
    assert f"shirt: image images/shirt.jpg, reason {reason}" in " ".join(words)


def test_a_missing_picture_is_listed(folder: Path, variables: dict[str, str], command: Run) -> None:
    (folder / "images" / "shirt.jpg").unlink()
    result = command("import", "tables", str(folder), "--json", variables=variables).json
    assert [bad["reason"] for bad in result["quarantined"]] == ["no such file"]


def test_many_bad_pictures_are_counted(
    folder: Path, variables: dict[str, str], command: Run
) -> None:
    for number in range(25):
        add_item = f"hat{number:02},hat,images/hat{number:02}.jpg"
        with (folder / "items.csv").open("a") as file:
            file.write(add_item + "\n")
    people = command("import", "tables", str(folder), variables=variables)
    assert people.code == 0
    assert people.out.count("no such file") == 20
    assert "and 5 more" in people.out
    result = command("import", "tables", str(folder), "--json", variables=variables).json
    assert len(result["quarantined"]) == 25


def test_an_outfit_that_changed_since_it_was_liked(
    folder: Path, variables: dict[str, str], command: Run
) -> None:
    assert command("import", "tables", str(folder), variables=variables).code == 0
    replace("outfits.csv", "walk,jeans|boots", "walk,jeans|shirt\nnew,boots")(folder)
    assert command("import", "tables", str(folder), variables=variables).error(2) == (
        "outfit 'walk' is in the catalog and now has item 'shirt', which it did not have; users "
        "liked what it was: give the changed outfit a new id"
    )
    assert count(variables, "outfit") == 2


# Jobs before there is anything to work on


@pytest.mark.parametrize(
    "job",
    ["train-autoencoder", "train-teacher", "distill", "embed", "nightly-recommend", "evaluate"],
)
def test_an_empty_catalog(job: str, variables: dict[str, str], command: Run) -> None:
    message = command(job, variables=variables).error(2)
    assert message == (
        "the catalog is empty; run `python cli.py import tables FOLDER` first "
        "(docs/data.md shows the format)"
    )


@pytest.mark.parametrize(
    ("job", "missing", "maker"),
    [
        ("distill", "teacher", "train-teacher"),
        ("compile", "student", "distill"),
        ("embed", "student", "distill"),
        ("nightly-recommend", "student", "distill"),
        ("evaluate", "student", "distill"),
        ("report", "student", "distill"),
    ],
)
def test_jobs_before_any_model(
    job: str, missing: str, maker: str, shop: Shop, command: Run
) -> None:
    shop.rows("UPDATE model SET status = 'retired'")
    message = command(job, folder=shop.folder, variables=shop.variables).error(2)
    assert message == f"there is no active {missing}; run `python cli.py {maker}` first"
    [(outcome, error)] = shop.rows(
        "SELECT outcome, error FROM job_run ORDER BY run_id DESC LIMIT 1"
    )
    assert (outcome, error) == ("failed", message)


def test_too_little_to_learn_from(folder: Path, variables: dict[str, str], command: Run) -> None:
    assert command("import", "tables", str(folder), variables=variables).code == 0
    message = command("train-teacher", variables=variables).error(2)
    assert "import more interactions or lower users.min_training_positives" in message


def test_pictures_were_imported_at_another_size(shop: Shop, command: Run) -> None:
    variables = shop.variables | {"RECJOB_IMAGES__SIZE": "96"}
    for job in ("train-autoencoder", "train-teacher", "distill"):
        message = command(job, folder=shop.folder, variables=variables).error(2)
        assert "import" in message
        assert "96" in message


# Recommendations, models, runs


def test_recommend_prints_the_published_list(trained_shop: Shop, command: Run) -> None:
    where = {"folder": trained_shop.folder, "variables": trained_shop.variables}
    value = command("recommend", "user-001", "--json", **where).json
    assert (value["user"], value["kind"]) == ("user-001", "warm")
    listed = [(outfit["outfit"], outfit["score"]) for outfit in value["outfits"]]
    assert listed == trained_shop.lists()["user-001"]
    assert len(listed) == K
    people = command("recommend", "user-001", **where)
    assert people.code == 0
    for outfit, score in listed:
        assert outfit in people.out
        assert f"{score:.4f}" in people.out
    assert command("recommend", "NOBODY", **where).error(2) == (
        "no user 'NOBODY'; users come with `python cli.py import`"
    )


def test_models_list(trained_shop: Shop, command: Run) -> None:
    where = {"folder": trained_shop.folder, "variables": trained_shop.variables}
    rows = command("models", "list", "--json", **where).json["models"]
    assert [(row["role"], row["status"]) for row in rows] == [
        ("student", "active"),
        ("teacher", "active"),
        ("autoencoder", "active"),
    ]
    people = command("models", "list", **where)
    assert people.code == 0
    assert all(row["model"] in people.out for row in rows)  # whole, to be copied


def test_runs_list_and_rollback(shop: Shop, command: Run) -> None:
    where = {"folder": shop.folder, "variables": shop.variables}
    [first] = command("runs", "list", "--json", **where).json["runs"]
    night = command("nightly-recommend", "--json", **where).json
    assert night["lists"] == 17
    runs = command("runs", "list", "--json", **where).json["runs"]
    assert [(run["run"], run["shown"]) for run in runs] == [
        (night["run_id"], True),
        (first["run"], False),
    ]
    assert command("runs", "rollback", "--json", **where).json["run"] == first["run"]
    value = command("recommend", "stranger-001", "--json", **where).json
    assert (value["run"], value["kind"]) == (first["run"], "stranger")
    forward = command("runs", "rollback", "--to", str(night["run_id"]), "--json", **where).json
    assert (forward["run"], forward["shown"]) == (night["run_id"], True)
    assert command("runs", "rollback", "--to", "999", **where).error(2) == (
        "run 999 is not kept; `python cli.py runs list` shows which are"
    )


def test_lists_of_nothing(variables: dict[str, str], command: Run) -> None:
    assert command("models", "list", variables=variables) == Ended(0, "no models\n", "")
    assert command("runs", "list", variables=variables) == Ended(0, "no runs\n", "")
    assert command("models", "list", "--json", variables=variables).json == {"models": []}
    for arguments in (("recommend", "anna"), ("runs", "rollback")):
        assert command(*arguments, variables=variables).error(2) == (
            "no run is published; run `python cli.py nightly-recommend` first"
        )


# Settings, database, home


def test_unknown_setting(tmp_path: Path, variables: dict[str, str], command: Run) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[teacher]\nepoch = 3\n")
    ended = command("train-teacher", "--settings", str(file), variables=variables)
    assert ended.error(2) == (
        f"{file}: teacher.epoch: unknown key; see docs/settings.md for every key"
    )
    assert count(variables, "job_run") == 0


def test_missing_settings_file(tmp_path: Path, variables: dict[str, str], command: Run) -> None:
    ended = command("embed", "--settings", "nowhere.toml", variables=variables)
    assert ended.error(2) == "nowhere.toml: no such settings file"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://recjob:s3cret@localhost:1/recjob",
        "postgresql://recjob:s3cret@/recjob?host=/nowhere",
        "postgres://recjob:s3cret@localhost:1/recjob?connect_timeout=2",
    ],
)
@pytest.mark.parametrize("arguments", [("embed",), ("recommend", "anna"), ("db", "upgrade")])
def test_unreachable_database(
    url: str, arguments: tuple[str, ...], tmp_path: Path, command: Run
) -> None:
    message = command(*arguments, variables=environment(tmp_path / "var", url)).error(5)
    assert message.startswith("database ")
    assert "localhost:1/recjob" in message or "/nowhere" in message
    assert "s3cret" not in message


def test_a_url_that_is_none(tmp_path: Path, command: Run) -> None:
    variables = environment(tmp_path / "var", "mysql://root:s3cret@localhost/shop")
    message = command("embed", variables=variables).error(2)
    assert "RECJOB_DATABASE_URL" in message
    assert "it looks like postgresql://user:" in message
    assert "s3cret" not in message


def test_a_home_that_cannot_be(tmp_path: Path, variables: dict[str, str], command: Run) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "var"):
        message = command("embed", variables=variables | {"RECJOB_HOME": str(home)}).error(2)
        assert message.startswith(f"{home}: cannot be the home folder (")
        assert "RECJOB_HOME" in message
        message = command("embed", variables={"RECJOB_HOME": str(home)}).error(2)
        assert "RECJOB_HOME" in message
        message = command("demo", variables={"RECJOB_HOME": str(home)}).error(2)
        assert "RECJOB_HOME" in message


def test_a_locked_job(shop: Shop, command: Run) -> None:
    from recjob.jobs.runner import JOB_LOCKS
    from recjob.store.database import open_database
    from recjob.store.ledger import Lease

    where = {"folder": shop.folder, "variables": shop.variables}
    with open_database(shop.settings) as database:
        lease = Lease(database, "embed", JOB_LOCKS["embed"], {})
        try:
            message = command("embed", **where).error(3)
            assert message.startswith("embed cannot start: embed (pid ")
            assert message.endswith(" UTC; wait for its end")
            assert f"run {lease.run_id}" in message
            assert command("import", "tables", "shop", **where).error(3).startswith("import cannot")
        finally:
            lease.end("done", {}, [], {}, None)
    assert command("embed", "--json", **where).json["new_items"] == 0


def test_a_second_demo_in_the_same_home(tmp_path: Path, command: Run) -> None:
    home = tmp_path / "var"
    home.mkdir()
    with (home / "demo.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = command("demo", variables={"RECJOB_HOME": str(home)}).error(3)
    assert message == f"{home}/demo.lock: another demo runs here; wait for its end"


# Training without a database


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "data"), "--data needs --out beside it: "),
        (("--out", "out"), "--out needs --data beside it: "),
        (("--data", "nowhere", "--out", "out"), "nowhere: no such folder; "),
        (("--data", "data", "--out", "data/items.csv"), "data/items.csv: cannot be written to"),
        (("--data", "data", "--out", "out"), "catalog: 0 users have 5 or more training positives"),
    ],
)
def test_training_on_folders(
    arguments: tuple[str, ...], message: str, folder: Path, tmp_path: Path, command: Run
) -> None:
    assert folder == tmp_path / "data"
    variables = environment(tmp_path / "var", "postgresql://localhost:1/nobody-asks-for-it")
    found = command("train-teacher", *arguments, variables=variables).error(2)
    assert found.startswith(message)
    assert not (tmp_path / "out" / "teacher").exists()


def test_importing_what_is_no_model(
    tmp_path: Path, variables: dict[str, str], command: Run
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        message = command("models", "import", name, variables=variables).error(2)
        assert message.startswith(name)
    assert count(variables, "model") == 0


# The command line itself


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nightly",), "nightly"),
        (("embed", "--fast"), "--fast"),
        (("models", "import"), "folder"),
        (("runs", "rollback", "--to", "last"), "--to"),
        (("models", "drop"), "drop"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], part: str, command: Run) -> None:
    ended = command(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert part in ended.err
    assert "Traceback" not in ended.err


def test_every_command_shows_an_example_and_all_its_help() -> None:
    root = get_command(app)
    context = root.make_context("cli.py", [], resilient_parsing=True)
    found = 0
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {name: command})
        for child, leaf in below.items():
            path = name if leaf is command else f"{name} {child}"
            text = leaf.help or ""
            assert f"python cli.py {path}" in text, path
            assert render(text, emoji=False).plain == text, (
                f"{path}: [words] in brackets are not shown"
            )
            found += 1
    assert found > 15
    assert context.command is root


def test_interrupted(
    variables: dict[str, str], command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(settings: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recjob.jobs.model_registry.models", interrupt)
    assert command("models", "list", variables=variables) == Ended(130, "", "interrupted\n")


def test_the_version_is_that_of_the_sources(command: Run) -> None:
    ended = command("--version")
    assert (ended.code, ended.out) == (0, f"{source_version()}\n")
