"""Figures 4 to 8 from finished runs: which runs they need, what they say, what they draw."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from recjob.errors import SettingsError
from recjob.paper import figure4, figure5, figure6, figure7, figure8, space
from recjob.paper.artifact import NOT_RUN, Artifact, Cell, Spread, write_artifact
from recjob.paper.catalogue import ArtifactModule, artifact_module
from recjob.settings import StudentSettings
from tests.paper.finished import finish, tiny_study

PLOTS = ("figure4", "figure5", "figure6", "figure7")
TINY = {
    "figure_repeats": 2,
    "alphas": (2.0, 1.0),
    "sizes": ("xs", "s"),
    "batch_sizes": (64, 16),
}


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def column(artifact: Artifact, name: str) -> list[Cell]:
    return [row[artifact.table.columns.index(name)] for row in artifact.table.rows]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_asks_for_the_runs_that_it_needs_and_no_others(name: str, tmp_path: Path) -> None:
    module: ArtifactModule = artifact_module(name)
    study = tiny_study(tmp_path, **TINY)
    nothing = module.build(study)
    assert nothing.plot is None
    assert all(str(cell).startswith(NOT_RUN) for cell in column(nothing, "Remark"))

    specs = module.needs(study)
    assert len({spec.key for spec in specs}) == len(specs) == 2 * len(nothing.table.rows)
    for number, spec in enumerate(specs):
        finish(study, spec, 0.8 + 0.001 * number)
    artifact = module.build(study)
    assert not any(column(artifact, "Remark"))
    for auc, ndcg in zip(column(artifact, "AUC"), column(artifact, "NDCG"), strict=True):
        assert isinstance(auc, Spread)
        assert isinstance(ndcg, Spread)
        assert auc.repeats == 2
        assert ndcg.mean == pytest.approx(auc.mean - 0.1)
    assert any("seeds 0, 1" in note for note in artifact.notes)
    assert any("plot only" in note for note in artifact.notes)
    (png,) = (path for path in write_artifact(tmp_path, artifact, {}) if path.suffix == ".png")
    with Image.open(png) as picture:
        assert picture.width > picture.height


def test_figure4_shows_alpha_in_both_units_and_chooses_by_validation(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, alphas=(2.0, 0.5, 1.0))
    specs = figure4.needs(study)
    alphas = [spec.settings.student.alpha_relative for spec in specs[:3]]
    assert alphas == [0.5, 1.0, 2.0]
    assert [spec.settings.student.loss for spec in specs[3:]] == ["n-pair", "bpr"]
    for spec, alpha, auc in zip(specs[:2], alphas, (0.8, 0.9), strict=False):
        finish(study, spec, auc, alpha=4 * alpha, mean_d=alpha, share_d_below_zero=0.1)
    finish(study, specs[3], 0.85)
    artifact = figure4.build(study)
    assert column(artifact, "α × gap") == [0.5, 1.0, 2.0, None, None]
    assert column(artifact, "α (Eq. 12)") == [2.0, 4.0, None, None, None]
    assert column(artifact, "Remark")[2] == column(artifact, "Remark")[4] != ""
    assert "α × gap = 1." in artifact.notes[0]
    assert artifact.plot is not None
    artifact.plot(tmp_path / "a.png")  # a gap in the line, and no line of BPR


def test_figure5_has_all_pairs_but_two_identities(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    students = [spec.settings.student for spec in figure5.needs(study)]
    pairs = [student.augmentations for student in students[:8]]
    assert len(set(pairs)) == 8
    assert ("identity", "identity") not in pairs
    assert all(student.contrastive_weight > 0 for student in students[:8])
    assert students[8].contrastive_weight == 0
    names = column(figure5.build(study), "Pair")
    assert names == ["IE", "IR", "EI", "EE", "ER", "RI", "RE", "RR", None]


def test_figure7_scales_the_learning_rate(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, batch_sizes=(64, 8, 16))
    base = study.settings.student
    for spec in figure7.needs(study):
        section = spec.section
        assert isinstance(section, StudentSettings)
        expected = base.learning_rate * section.batch_size / base.batch_size
        assert section.learning_rate == pytest.approx(expected)
    assert column(figure7.build(study), "Learning rate") == ["0.0005", "0.001", "0.004"]


@pytest.mark.parametrize("name", PLOTS)
def test_frozen_points_say_so(name: str, tmp_path: Path) -> None:
    module = artifact_module(name)
    study = tiny_study(tmp_path, **(TINY | {"figure_repeats": 1, "figures_freeze": True}))
    for spec in module.needs(study):
        assert spec.frozen == (spec.role == "student")
        finish(study, spec, 0.9)
    assert any("frozen trunk" in note for note in module.build(study).notes)


def test_figure6_keeps_the_methods_apart(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, sizes=("xs", "m"))
    for spec in figure6.needs(study):
        finish(study, spec, 0.9 if spec.role == "teacher" else 0.8)
    artifact = figure6.build(study)
    assert column(artifact, "Method") == [*["N-pair"] * 2, *["FND"] * 2, *["FND-CL"] * 2, "Teacher"]
    assert column(artifact, "Size") == ["XS", "M"] * 3 + ["xs"]
    assert [cell.mean for cell in column(artifact, "AUC") if isinstance(cell, Spread)][-1] == 0.9


def test_figure8_is_drawn_and_its_verdicts_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "CANDIDATES", 30)
    monkeypatch.setattr(figure8, "CANDIDATES", 30)
    options = {"figure8_users": 2, "figure8_outfits": 6, "neighbours": 4}
    study = tiny_study(tmp_path, **options)
    (spec,) = figure8.needs(study)
    failed = figure8.build(study)
    assert failed.plot is None
    assert NOT_RUN in failed.notes[0]
    write_artifact(tmp_path / "failed", failed, {})
    finish(study, spec, 0.9)
    artifact = figure8.build(study)
    assert column(artifact, "Random negatives") == [60, 60]
    written = write_artifact(tmp_path / "a", artifact, {})
    write_artifact(tmp_path / "b", figure8.build(study), {})
    for name in ("figure8.png", figure8.JUDGED_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(written[0]) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24) or ()}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= colours  # one colour for each user
    with (tmp_path / "a" / figure8.JUDGED_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["user_id"] for row in rows} == set(column(artifact, "User"))
    known = set(study.data.catalog.item_ids)
    assert all(set(row["item_ids"].split("|")) <= known for row in rows)
    assert {row["is_test_positive"] for row in rows} <= {"true", "false"}
    # Eq. 12: of one user, a higher score is a lower d.
    for user in {row["user_id"] for row in rows}:
        own = [row for row in rows if row["user_id"] == user]
        by_d = sorted(own, key=lambda row: float(row["d"]))
        scores = [float(row["teacher_score"]) for row in by_d]
        assert scores == sorted(scores, reverse=True)


def test_figure8_has_colours_for_so_many_users(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"paper\.figure8_users"):
        figure8.build(tiny_study(tmp_path, figure8_users=7))
