"""A table or figure of the paper, and its files: Markdown, CSV, JSON and, with a plot, PNG."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from recjob.catalog.disk import replace_file

DIGITS: Final = ((1.0, 4), (10.0, 2))
"""Digits after the point in Markdown of numbers up to a size (AUC, lift), else one (seconds); CSV
and JSON have every digit."""
KEY: Final = "key"
"""In the provenance: what the result depends on, which tells people nothing."""
NOT_RUN: Final = "not run"
NOT_BUILT: Final = "not built yet"


@dataclass(frozen=True)
class Spread:
    """A mean over repeats and its standard deviation; CSV and JSON have them in two columns."""

    mean: float
    deviation: float
    """Of the sample (n - 1); 0 for one repeat."""
    repeats: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Mean and deviation of at least one value."""
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), deviation, len(values))


Cell = str | int | float | Spread | None
"""None is an empty cell."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def expanded(self) -> tuple[list[str], list[list[str | int | float | None]]]:
        """Columns and rows with each Spread in two columns, "X" and "X deviation"."""
        spread = [
            any(isinstance(row[place], Spread) for row in self.rows)
            for place in range(len(self.columns))
        ]
        columns: list[str] = []
        for name, wide in zip(self.columns, spread, strict=True):
            columns += [name, f"{name} deviation"] if wide else [name]
        rows = []
        for row in self.rows:
            cells: list[str | int | float | None] = []
            for cell, wide in zip(row, spread, strict=True):
                deviation = None
                if isinstance(cell, Spread):
                    deviation = cell.deviation if cell.repeats > 1 else None
                    cell = cell.mean
                cells += [cell, deviation] if wide else [cell]
            rows.append(cells)
        return columns, rows


@dataclass(frozen=True)
class Artifact:
    """What was measured, and the paper's figures beside it."""

    name: str
    """Of its files: "table2"."""
    title: str
    table: Table
    notes: tuple[str, ...] = ()
    """Sentences under the table: what was measured on what, and what it means."""
    published: Table | None = None
    """The paper's figures, where they are not columns of the table itself."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Further figures for the JSON file alone."""
    plot: Callable[[Path], None] | None = None
    """Writes the PNG file that it is given."""


def markdown(artifact: Artifact, provenance: Mapping[str, Any]) -> str:
    """The page of an artifact."""
    parts = [f"# {artifact.title}\n"]
    if artifact.plot is not None:
        parts.append(f"![{artifact.title}]({artifact.name}.png)\n")
    parts.append(markdown_table(artifact.table))
    parts += [f"{note}\n" for note in artifact.notes]
    if artifact.published is not None:
        parts += ["The paper's figures:\n", markdown_table(artifact.published)]
    told = "; ".join(f"{name}: {_told(value)}" for name, value in provenance.items() if name != KEY)
    return "\n".join([*parts, f"{told}.\n"])


def markdown_table(table: Table) -> str:
    """A Markdown table; numbers to the right."""
    left = [
        any(isinstance(row[place], str) for row in table.rows)
        for place in range(len(table.columns))
    ]
    lines = [
        list(table.columns),
        ["---" if text else "---:" for text in left],
        *([show(cell) for cell in row] for row in table.rows),
    ]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines
    )


def show(cell: Cell) -> str:
    """A cell for people."""
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        digits = _digits(cell.mean)
        mean = f"{cell.mean:,.{digits}f}"
        return mean if cell.repeats == 1 else f"{mean} ± {cell.deviation:,.{digits}f}"
    if isinstance(cell, float):
        return f"{cell:,.{_digits(cell)}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _digits(number: float) -> int:
    return next((digits for limit, digits in DIGITS if abs(number) <= limit), 1)


def write_artifact(folder: Path, artifact: Artifact, provenance: Mapping[str, Any]) -> list[Path]:
    """Write the files of an artifact, each whole; returns their paths, the JSON file last."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if artifact.plot is not None:
        picture = folder / f"{artifact.name}.png"
        unfinished = folder / f".{artifact.name}.new.png"
        artifact.plot(unfinished)
        unfinished.replace(picture)
        written.append(picture)
    columns, rows = artifact.table.expanded()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    value = {
        "name": artifact.name,
        "title": artifact.title,
        "columns": columns,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "notes": list(artifact.notes),
        "published": _published(artifact.published),
        "values": dict(artifact.values),
        "provenance": dict(provenance),
    }
    for suffix, content in (
        ("md", markdown(artifact, provenance)),
        ("csv", text.getvalue()),
        ("json", json.dumps(value, ensure_ascii=False, indent=1) + "\n"),
    ):
        written.append(replace_file(folder / f"{artifact.name}.{suffix}", content.encode()))
    return written


def _published(table: Table | None) -> list[dict[str, str | int | float | None]]:
    if table is None:
        return []
    columns, rows = table.expanded()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _told(value: Any) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
