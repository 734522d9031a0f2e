"""The reference in docs/ is what the code says, and what the guides show works."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pydantic import BaseModel
from sqlalchemy import text
from typer.core import TyperGroup
from typer.main import get_command

from recjob.catalog.tables import read_folder
from recjob.cli import app
from recjob.reference import cli_reference, field_docs, metrics_reference, settings_reference
from recjob.settings import CatalogSettings, Settings, load_settings
from recjob.store.database import Database, administrator

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])
GUIDES = [page for page in PAGES if page.name not in ("settings.md", "cli.md", "metrics.md")]

SECTIONS = [
    field.annotation
    for field in Settings.model_fields.values()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
]


def test_settings_reference_is_up_to_date() -> None:
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert written == settings_reference(), "run: make docs"


def test_command_reference_is_up_to_date() -> None:
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == cli_reference(app), "run: make docs"


def test_metrics_reference_is_up_to_date() -> None:
    written = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert written == metrics_reference(), "run: make docs"


@pytest.mark.parametrize("model", [Settings, *SECTIONS], ids=lambda model: model.__name__)
def test_every_setting_says_what_it_means(model: type[BaseModel]) -> None:
    own = {name for name, field in model.model_fields.items() if field.annotation not in SECTIONS}
    assert own - field_docs(model).keys() == set()
    assert model.__doc__


def test_settings_rows() -> None:
    reference = settings_reference()
    assert "| `epochs` | integer, ≥ 1 | `40` | Most passes" in reference  # inherited by [teacher]
    assert "| `weights` | text | `imagenet` |" in reference
    assert "| `augmentations` | list of 2: `identity` or `erase` or `replace` |" in reference
    assert "| `database_url` | text | none |" in reference
    assert "\n## [cold_start]\n" in reference


def test_commands_with_their_arguments_and_examples() -> None:
    shop = typer.Typer(help="What it does.")
    below = typer.Typer(help="The database.")
    shop.add_typer(below, name="db")

    @shop.command()
    def show(
        user: Annotated[str, typer.Argument(help="Whose list.")],
        k: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    ) -> None:
        """Print a list
        of outfits.

        python cli.py show anna --k 5
        """

    @below.command()
    def upgrade() -> None:
        """Bring it up to date."""

    @shop.command(hidden=True)
    def secret() -> None:
        """Nobody reads this."""

    reference = cli_reference(shop)
    assert "## show\n" in reference
    assert "```\npython cli.py show [OPTIONS]" in reference
    assert "\nPrint a list of outfits.\n" in reference
    assert "```\npython cli.py show anna --k 5\n```" in reference
    assert "Whose list." in reference
    assert "How many. [default: 20; x>=1]" in reference
    assert "## db upgrade\n" in reference
    assert "secret" not in reference
    assert "--help`" not in reference


def fenced(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language; "" for those that name none."""
    blocks: list[list[str]] = []
    inside: str | None = None
    for line in page.read_text("utf-8").splitlines():
        if line.strip().startswith("```"):
            inside = line.strip()[3:] if inside is None else None
            if inside == language:
                blocks.append([])
        elif inside == language:
            blocks[-1].append(line.strip())
    assert inside is None, f"{page}: a code block is not closed"
    return ["\n".join(block) for block in blocks]


def shown_commands() -> list[str]:
    """Every `python cli.py ...` line of the code blocks of the guides."""
    return [
        line.removeprefix(".venv/bin/")
        for page in GUIDES
        for block in fenced(page, "")
        for line in block.splitlines()
        if line.removeprefix(".venv/bin/").startswith("python cli.py ")
    ]


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_shown_commands_exist(line: str) -> None:
    command: Any = get_command(app)
    words = shlex.split(line)[2:]
    while isinstance(command, TyperGroup):
        options = {name for parameter in command.params for name in parameter.opts}
        while words and words[0].startswith("--"):  # each of them has a value
            assert words[0] in options
            words = words[2:]
        assert words
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize(
    "settings",
    [block for page in GUIDES for block in fenced(page, "toml")]
    + [path.read_text("utf-8") for path in (ROOT / "examples").glob("*.toml")],
)
def test_shown_settings_are_accepted(settings: str, tmp_path: Path) -> None:
    file = tmp_path / "recjob.toml"
    file.write_text(settings, encoding="utf-8")
    assert load_settings(file, {}) == Settings.model_validate(tomllib.loads(settings))


def test_named_settings_exist() -> None:
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    files = {"csv", "json", "md", "safetensors", "sql"}
    wrong = [
        f"{page.name}: {section}.{key}"
        for page in GUIDES
        for section, key in re.findall(r"`([a-z_]+)\.([a-z0-9_]+)", page.read_text("utf-8"))
        if section in sections and key not in sections[section] | files
    ]
    assert wrong == []


def test_the_example_of_the_import_format_is_one(tmp_path: Path) -> None:
    page = (DOCS / "data.md").read_text("utf-8")
    examples = re.findall(r"<!-- example: (\S+) -->\n```csv\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 4
    for name, content in examples:
        (tmp_path / name).write_text(content, encoding="utf-8")
    tables = read_folder(tmp_path, CatalogSettings())
    for table in (tables.items, tables.outfits, tables.interactions, tables.users):
        assert table.num_rows == 9


def test_shown_queries_run(database: Database) -> None:
    statements = [
        statement.strip()
        for block in fenced(DOCS / "guide.md", "sql")
        for statement in block.split(";")
        if statement.strip()
    ]
    queries = [statement for statement in statements if statement.startswith("SELECT")]
    assert len(queries) >= 3
    with administrator(database.url) as engine, engine.connect() as connection:
        # Users belong to the whole server: what this test makes is rolled back.
        for statement in statements:
            if statement not in queries:
                connection.execute(text(statement))
        for query in queries:
            user = "watcher" if "job_run" in query else "shop"
            connection.execute(text(f"SET LOCAL SESSION AUTHORIZATION {user}"))
            connection.execute(text(query))
            connection.execute(text("RESET SESSION AUTHORIZATION"))
        connection.rollback()


def messages_of_the_code() -> list[str]:
    """Every piece of text in the code."""
    return [
        node.value
        for path in (ROOT / "recjob").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    section = (DOCS / "guide.md").read_text("utf-8").split("## Troubleshooting")[1]
    rows = re.findall(r"^\| `(.+?)` \| \d", section, re.MULTILINE)
    assert len(rows) > 30
    said = messages_of_the_code()
    missing = [
        piece.strip()
        for message in rows
        for piece in message.split("…")
        if not any(piece in constant for constant in said)
    ]
    assert missing == []
