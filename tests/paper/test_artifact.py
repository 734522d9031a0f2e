"""Files of a table: Markdown, CSV and JSON say the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from recjob.paper.artifact import Artifact, Spread, Table, show, write_artifact

TABLE = Table(
    ("Method", "AUC", "Paper", "Remark"),
    (
        ("FND", Spread.of([0.8, 0.9]), 0.8991, ""),
        ("N-pair", Spread.of([0.75]), None, "with | and, comma"),
        ("LPAE-u", None, 0.8782, "not built yet"),
    ),
)


def test_the_three_files_agree(tmp_path: Path) -> None:
    artifact = Artifact("table9", "Table 9: a title", TABLE, ("A note.",), TABLE)
    paths = write_artifact(tmp_path / "new", artifact, {"seeds": [1, 2], "key": "secret"})
    assert [path.name for path in paths] == ["table9.md", "table9.csv", "table9.json"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        path.name for path in paths
    )
    page = paths[0].read_text()
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    value = json.loads(paths[2].read_text())
    assert value["columns"] == ["Method", "AUC", "AUC deviation", "Paper", "Remark"]
    for from_csv, from_json in zip(rows, value["rows"], strict=True):
        assert {name: "" if cell is None else str(cell) for name, cell in from_json.items()} == (
            from_csv
        )
    assert value["rows"][0]["AUC"] == pytest.approx(0.85)
    assert value["rows"][0]["AUC deviation"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert value["rows"][1]["AUC deviation"] is None  # one repeat deviates from nothing
    assert value["published"] == value["rows"]
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert lines[:2] == ["| Method | AUC | Paper | Remark |", "| --- | ---: | ---: | --- |"]
    assert lines[2] == "| FND | 0.8500 ± 0.0707 | 0.8991 |  |"
    assert lines[3] == r"| N-pair | 0.7500 |  | with \| and, comma |"
    assert lines[4] == "| LPAE-u |  | 0.8782 | not built yet |"
    assert "seeds: 1, 2" in page
    assert "secret" not in page


def test_a_plot_is_written_beside_them(tmp_path: Path) -> None:
    def plot(path: Path) -> None:
        path.write_bytes(b"picture")

    artifact = Artifact("figure9", "A figure", TABLE, plot=plot)
    [picture, page, *_] = write_artifact(tmp_path, artifact, {})
    assert picture.read_bytes() == b"picture"
    assert "![A figure](figure9.png)" in page.read_text()


def test_a_plot_that_fails_leaves_no_files(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_artifact(tmp_path, Artifact("figure9", "A figure", TABLE, plot=fail), {})
    assert [path.name for path in tmp_path.iterdir()] == [".figure9.new.png"]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (None, ""),
        (0.89914, "0.8991"),
        (1.0, "1.0000"),
        (8.126, "8.13"),
        (80.51, "80.5"),
        (12345.6, "12,345.6"),
        (162_945, "162,945"),
        ("as it is", "as it is"),
        (Spread(0.9, 0.01234, 3), "0.9000 ± 0.0123"),
        (Spread(80.5, 1.74, 10), "80.5 ± 1.7"),
        (Spread(0.9, 0.0, 1), "0.9000"),
    ],
)
def test_how_cells_are_shown(cell: str | int | float | Spread | None, told: str) -> None:
    assert show(cell) == told
