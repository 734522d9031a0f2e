"""The reference in docs/ is what the code says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from pydantic import BaseModel

from recjob.reference import cli_reference, field_docs, settings_reference
from recjob.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"

SECTIONS = [
    field.annotation
    for field in Settings.model_fields.values()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
]


def test_settings_reference_is_up_to_date() -> None:
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert written == settings_reference(), "run: make docs"


@pytest.mark.parametrize("model", [Settings, *SECTIONS], ids=lambda model: model.__name__)
def test_every_setting_says_what_it_means(model: type[BaseModel]) -> None:
    own = {name for name, field in model.model_fields.items() if field.annotation not in SECTIONS}
    assert own - field_docs(model).keys() == set()
    assert model.__doc__


def test_settings_rows() -> None:
    text = settings_reference()
    assert "| `epochs` | integer, ≥ 1 | `40` | Most passes" in text  # inherited by [teacher]
    assert "| `weights` | text | `imagenet` |" in text
    assert "| `augmentations` | list of 2: `identity` or `erase` or `replace` |" in text
    assert "| `database_url` | text | none |" in text
    assert "\n## [cold_start]\n" in text


def test_commands_with_their_arguments_and_examples() -> None:
    app = typer.Typer(help="What it does.")
    below = typer.Typer(help="The database.")
    app.add_typer(below, name="db")

    @app.command()
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

    @app.command(hidden=True)
    def secret() -> None:
        """Nobody reads this."""

    text = cli_reference(app)
    assert "## show\n" in text
    assert "```\npython cli.py show [OPTIONS]" in text
    assert "\nPrint a list of outfits.\n" in text
    assert "```\npython cli.py show anna --k 5\n```" in text
    assert "Whose list." in text
    assert "How many. [default: 20; x>=1]" in text
    assert "## db upgrade\n" in text
    assert "secret" not in text
    assert "--help`" not in text
