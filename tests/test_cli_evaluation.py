"""`evaluate` and `compare` from the command line: what people see, and their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Run
from tests.fixtures_shop import Shop


def test_tables_for_people(shop: Shop, command: Run, tmp_path: Path) -> None:
    judged = tmp_path / "judged.csv"
    ended = command(
        *("evaluate", "--cold-start", "--truth", "--judged", str(judged)),
        folder=shop.folder,
        variables=shop.variables | {"COLUMNS": "160"},
    )
    assert ended.code == 0, ended.err
    for text in (
        "each beside 10 negatives (random)",
        "novelty (bits)",
        "by the user's number of training positives",
        "w-avg",
        "truly liked (base rate)",
        "times as often (held-out lift)",
        "random outfits by d",
    ):
        assert text in ended.out
    assert judged.read_text().startswith('"user_id","item_ids","teacher_score","d"\n')


@pytest.mark.parametrize("option", ["--truth-file", "--judged"])
def test_truth_is_asked_for_by_its_own_name(option: str, command: Run) -> None:
    message = command("evaluate", option, "some.csv").error(2)
    assert message == f"{option} needs --truth beside it"


def test_unknown_models(shop: Shop, command: Run) -> None:
    ended = command("compare", "student", "x", folder=shop.folder, variables=shop.variables)
    assert ended.error(2) == "no model 'x'; `python cli.py models list` shows them"
