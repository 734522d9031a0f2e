"""Results on standard output: tables for people, one JSON object with --json."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from recjob import logs
from recjob.errors import SettingsError
from recjob.settings import load_settings

WIDEST_ROW = 1000
"""Characters of a line of `models list`; the terminal wraps it where it is narrower."""
MOST_LINES = 20
"""Of a list in a table for people; `--json` has them all."""


def log_as_settings_say(file: Path | None) -> Path | None:
    """Log as `[logging]` of this file (None: recjob.toml) and the environment say."""
    with contextlib.suppress(SettingsError):  # the command itself reads them and tells
        logs.configure(load_settings(file).logging)
    return file


SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="TOML file; default: recjob.toml where it exists.",
        callback=log_as_settings_say,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on standard output.")
]


def print_values(answer: BaseModel, as_json: bool) -> None:
    """One answer: a line per value."""
    values = answer.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    if "skipped" in values:
        sys.stdout.write(f"skipped: {values['skipped']}\n")
        return
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _text(name, value))
    Console().print(table)


def print_rows(name: str, answers: Sequence[BaseModel], as_json: bool) -> None:
    """A list of answers of one kind: a line each."""
    rows = [answer.model_dump(mode="json") for answer in answers]
    if as_json:
        print_json({name: rows})
        return
    if not rows:
        sys.stdout.write(f"no {name}\n")
        return
    # Without lines between columns and never folded: names are there to be copied.
    table = Table(box=None, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(_text(name, value) for name, value in row.items()))
    Console(width=WIDEST_ROW).print(table, soft_wrap=True)


def _text(name: str, value: Any) -> str:
    """A value for people."""
    if name == "stages":
        return "\n".join(f"{stage['name']}: {stage['seconds']:.1f} s" for stage in value)
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(
            f"{key.replace('_', ' ')} {_text(key, part)}" for key, part in value.items()
        )
    if isinstance(value, list):
        if value and all(isinstance(inner, int | float) for inner in value):
            return " ".join(_text(name, inner) for inner in value)
        more = [f"and {len(value) - MOST_LINES} more"] if len(value) > MOST_LINES else []
        return "\n".join([*(_line(name, inner) for inner in value[:MOST_LINES]), *more])
    return "" if value is None else str(value)


def _line(name: str, value: Any) -> str:
    """A value of a list; one that begins with a name reads `name: the rest`."""
    if isinstance(value, dict) and len(value) > 1:
        (_, first), *rest = value.items()
        if isinstance(first, str):
            return f"{first}: {_text(name, dict(rest))}"
    return _text(name, value)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
