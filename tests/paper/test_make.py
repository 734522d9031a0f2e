"""The whole way from a folder to tables: nothing twice, and mistakes in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recjob.errors import UserError
from recjob.paper import make as making
from recjob.paper.make import Order, make, wanted_names
from recjob.paper.run import Run
from recjob.paper.shop import Source
from recjob.paper.study import Study
from tests.command_line import Run as Command
from tests.paper.conftest import silent, tiny_settings


def order(study: Study, *names: str) -> Order:
    """Made where the study's runs are."""
    return Order(names, Source(study.folder), study.out, study.settings, "cpu")


@pytest.fixture(scope="module")
def made(study: Study) -> list[str]:
    """What the first command says; it trains nothing, as the teacher is there."""
    said: list[str] = []
    result = make(order(study, "table1", "claim"), silent, said.append)
    assert result.written == ("table1", "claim")
    assert (result.runs_computed, result.runs_kept, result.runs_failed) == (0, 1, ())
    return said


def test_files_and_index(study: Study, made: list[str]) -> None:
    assert "1 runs are needed, 1 are there already" in made
    for name in ("table1", "claim"):
        for suffix in ("md", "csv", "json"):
            assert (study.out / f"{name}.{suffix}").stat().st_size
    index = (study.out / "index.md").read_text()
    assert "[md](table1.md), [csv](table1.csv), [json](table1.json)" in index
    assert "table2" not in index
    provenance = json.loads((study.out / "claim.json").read_text())["provenance"]
    assert (provenance["split"], provenance["seeds"]) == ("hash", [1])
    assert "shop (" in (study.out / "claim.md").read_text()


def test_the_second_time_nothing_is_done(
    study: Study, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (study.out / "claim.json").stat().st_mtime_ns

    def written(*_: object) -> list[Path]:
        raise AssertionError("written again")

    monkeypatch.setattr(making, "write_artifact", written)
    said: list[str] = []
    result = make(order(study, "table1", "claim"), silent, said.append)
    assert (result.written, result.kept) == ((), ("table1", "claim"))
    assert "claim: is there already" in said
    assert (study.out / "claim.json").stat().st_mtime_ns == before


def test_other_settings_of_a_table_train_nothing(study: Study, made: list[str]) -> None:
    evaluation = study.settings.evaluation.model_copy(update={"bootstrap_draws": 60})
    settings = study.settings.model_copy(update={"evaluation": evaluation})
    result = make(replace(order(study, "claim"), settings=settings), silent, lambda text: None)
    assert result.written == ("claim",)
    assert (result.runs_computed, result.runs_kept) == (0, 1)


def test_a_lost_file_is_written_again(study: Study, made: list[str]) -> None:
    (study.out / "table1.csv").unlink()
    assert make(order(study, "table1"), silent, lambda text: None).written == ("table1",)
    assert (study.out / "table1.csv").is_file()


def test_a_failed_run_is_told_and_tried_again(
    study: Study, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recjob.errors import RecjobError
    from recjob.paper import work

    teacher = study.settings.teacher.model_copy(update={"temperature": 0.5})
    settings = study.settings.model_copy(update={"teacher": teacher})
    wanted = replace(order(study, "claim"), settings=settings)
    with monkeypatch.context() as patch:

        def failing(*_: object) -> Run:
            raise RecjobError("the loss is nan")

        patch.setattr(work, "compute_run", failing)
        result = make(wanted, silent, lambda text: None)
    assert result.runs_failed == ("teacher, repeat 1",)
    assert "not run: the loss is nan" in (study.out / "claim.md").read_text()
    result = make(wanted, silent, lambda text: None)
    assert (result.runs_computed, result.runs_failed, result.written) == (1, (), ("claim",))
    assert "not run" not in (study.out / "claim.md").read_text()


def test_names() -> None:
    assert wanted_names(["table4", "table2", "table4"]) == ("table4", "table2")
    assert wanted_names(["all"])[:2] == ("table1", "table2")
    with pytest.raises(UserError, match="table9: no such table or figure; there are table1"):
        wanted_names(["table9"])


@pytest.mark.system
def test_workers_share_the_runs(drawn: Path, tmp_path: Path) -> None:
    """Two processes, each with a claim at a time; the tables are made here."""
    said: list[str] = []
    wanted = Order(
        ("claim",),
        Source(drawn),
        tmp_path,
        tiny_settings().model_copy(
            update={"paper": tiny_settings().paper.model_copy(update={"repeats": 2})}
        ),
        "cpu",
        workers=2,
    )
    result = make(wanted, silent, said.append)
    assert (result.runs_computed, result.runs_failed) == (2, ())
    rows = json.loads((tmp_path / "claim.json").read_text())["rows"]
    assert [row["Teacher"] for row in rows] == ["teacher, repeat 1", "teacher, repeat 2"]
    assert not list((tmp_path / ".requests").iterdir())


@pytest.mark.system
def test_a_mistake_that_a_worker_meets_is_told(drawn: Path, tmp_path: Path) -> None:
    settings = tiny_settings()
    teacher = settings.teacher.model_copy(update={"weights": "lost.pth"})
    wanted = Order(
        ("claim",),
        Source(drawn),
        tmp_path,
        settings.model_copy(update={"teacher": teacher}),
        "cpu",
        workers=2,
    )
    with pytest.raises(UserError, match=r"lost\.pth: no such weights file"):
        make(wanted, silent, lambda text: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("paper", "table1", "--data", "lost"), "lost: no such folder"),
        (("paper", "table1", "--data", "empty"), "empty: holds no items"),
        (("paper", "table9", "--data", "empty"), "table9: no such table or figure"),
        (
            ("paper", "table1", "--data", "empty", "--quick", "--settings", "x.toml"),
            "leave out --quick or --settings",
        ),
        (("paper", "table1", "--data", "empty", "--users", "7"), "empty holds no tuples_"),
        (("paper", "table1", "--data", "empty", "--device", "gpu"), "--device gpu: is auto"),
        (("paper", "table1", "--data", "empty", "--device", "cuda:99"), "--device cuda:99: torch"),
        (("paper", "table1", "--data", "empty", "--out", "file"), "file: cannot be written to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert message in command(*arguments).error(2)
