"""The tables, built from a study in which only teacher, N-pair and FND-CL are finished."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

from recjob.catalog.catalog import PADDING
from recjob.catalog.split import Part, part_positives
from recjob.evaluation.protocol import popularity_list_scores, quality
from recjob.paper import claim, table1, table2, table3, table4, table5
from recjob.paper.artifact import Artifact, Spread
from recjob.paper.catalogue import MODULES, artifact_module
from recjob.paper.methods import ROWS, WEIGHTED
from recjob.paper.rows import FROZEN, Repeats, repeats
from recjob.paper.study import Study


def by_name(artifact: Artifact) -> dict[str, dict[str, Any]]:
    columns = artifact.table.columns
    return {str(row[0]): dict(zip(columns, row, strict=True)) for row in artifact.table.rows}


@pytest.mark.parametrize("name", MODULES)
def test_every_artifact_has_its_parts(name: str, study: Study) -> None:
    module = artifact_module(name)
    assert name == module.NAME
    assert module.TITLE
    assert all(spec.data == study.digest for spec in module.needs(study))


def test_table1_counts_the_data(study: Study) -> None:
    artifact = table1.build(study)
    catalog = study.data.catalog
    [shop, newcomers] = artifact.table.rows
    row = dict(zip(artifact.table.columns, shop, strict=True))
    assert row["Outfits"] == catalog.n_outfits
    assert row["Users"] == study.settings.demo.users
    counts = [row[f"{part} positives"] for part in ("Training", "Validation", "Test")]
    assert sum(count for count in counts if isinstance(count, int)) == len(catalog.positives)
    assert newcomers[3] == study.settings.demo.cold_starters
    positives = [part_positives(catalog, study.data.parts, p) for p in (Part.TRAIN, Part.TEST)]

    def items(outfit: int) -> set[int]:
        return set(catalog.outfit_items[outfit].tolist()) - {PADDING}

    known: dict[int, set[int]] = {}
    for user, outfit in positives[0].tolist():
        known.setdefault(user, set()).update(items(outfit))
    shared = [bool(items(outfit) & known[user]) for user, outfit in positives[1].tolist()]
    assert row["Shared items"] == pytest.approx(np.mean(shared))


def test_table2_has_every_method_and_says_what_was_not_run(study: Study) -> None:
    artifact = table2.build(study)
    rows = by_name(artifact)
    assert list(rows)[:2] == ["Random", "Popularity"]
    assert {row.name for row in ROWS} <= rows.keys()
    for name in ("LPAE-u", "OutfitNet", "Type-Aware"):
        assert (rows[name]["AUC"], rows[name]["Remark"]) == (None, "not built yet")
    assert rows["LPAE-g"]["Paper, 519: NDCG"] == 0.8105
    assert (rows["FND"]["AUC"], rows["FND"]["Remark"]) == (None, "not run: not computed")
    run = study.student("fnd-cl")
    assert rows["FND-CL"]["AUC"] == Spread(run.test["auc"], 0.0, 1)
    assert rows["FND-CL"]["NDCG"] == Spread(run.test["ndcg_mean"], 0.0, 1)
    assert rows["FND-CL"]["Paper, 630: AUC"] == 0.9028
    lists = study.lists["random"]
    popularity = popularity_list_scores(study.data.catalog, study.data.training_positives, lists)
    assert rows["Popularity"]["AUC"] == quality(lists, popularity).auc
    n_pair, teacher = study.student("n-pair"), study.teacher()
    gap = teacher.test["auc"] - n_pair.test["auc"]
    assert artifact.values["gap"] == pytest.approx(gap)
    closed = artifact.values["gap_closed"]
    if gap > 0:
        assert closed == pytest.approx((run.test["auc"] - n_pair.test["auc"]) / gap)
    else:
        assert closed is None
    differences = artifact.values["differences"]
    assert differences["FND-CL minus FND"] is None
    paired = run.per_user_auc - n_pair.per_user_auc
    assert differences["FND-CL minus N-pair"]["difference"] == pytest.approx(paired.mean())
    assert any("FND-CL minus FND: not run." in note for note in artifact.notes)


def test_the_gap_that_is_closed() -> None:
    def of(auc: float, validation: float) -> Repeats:
        run: Any = replace_run(auc, validation)
        return Repeats("a row", (run,))

    values = table2.summary(of(0.80, 0.81), of(0.86, 0.0), of(0.84, 0.0), of(0.90, 0.89))
    assert values["gap"] == pytest.approx(0.10)
    assert values["gap_closed"] == pytest.approx(0.6)
    assert values["teacher_validation_lead"] == pytest.approx(0.08)
    assert table2.summary(of(0.9, 0), of(0.9, 0), of(0.9, 0), of(0.8, 0))["gap_closed"] is None
    missing = Repeats("a row", (), "not computed")
    assert table2.summary(missing, missing, missing, missing)["gap"] is None


class replace_run:  # noqa: N801  (stands for a Run)
    """What `summary` reads of a run."""

    def __init__(self, auc: float, validation: float) -> None:
        self.quality = {"random": {"auc": auc}}
        self.validation_auc = validation
        self.notes = {"mean_d": 1.0, "share_d_below_zero": 0.02, "teacher_gap": 0.2}


def test_table3_has_both_strategies(study: Study) -> None:
    rows = by_name(table3.build(study))
    assert rows["FND (w)"]["Remark"] == "not run: not computed"
    assert rows["LPAE-g"]["Remark"] == "not built yet"
    for name in ("FND-CL", "FND-CL (w)"):
        auc = rows[name]["AUC after 1 outfit"]
        assert isinstance(auc, Spread)
        assert 0 < auc.mean < 1
        assert rows[name]["AUC after 5 outfits"] is None  # newcomers here have at most four
    assert rows["FND-CL (w)"]["Paper, 32: AUC after 5"] == WEIGHTED["FND-CL"][3] == 0.8641
    assert rows["FND-CL"]["Paper, 32: AUC after 5"] == 0.8543


def test_table3_without_newcomers(study: Study) -> None:
    without = replace(study, newcomers=None)
    assert table3.needs(without) == []
    rows = by_name(table3.build(without))
    assert {row["Remark"] for row in rows.values()} == {"not built yet", "not run: no newcomers"}


def test_table4_ranks_the_hard_lists(study: Study) -> None:
    rows = by_name(table4.build(study))
    assert "Type-Aware" not in rows
    assert rows["FND-CL"]["Remark"] == "not run: not computed"
    also = rows["FND-CL, trained with random negatives alone"]
    assert also["AUC"] == Spread(study.student("fnd-cl").quality["hard"]["auc"], 0.0, 1)
    assert rows["FND-CL"]["Paper, 630-H: AUC"] == 0.8424


def test_table4_on_frozen_features_says_so(study: Study) -> None:
    paper = study.settings.paper.model_copy(update={"table4_freeze": True})
    settings = study.settings.model_copy(update={"paper": paper})
    frozen = replace(study, settings=settings)
    specs = table4.needs(frozen)
    students = [spec for spec in specs if spec.role == "student" and spec.hard]
    assert students
    assert all(spec.frozen for spec in students)
    assert not any(spec.frozen for spec in specs if spec.role == "teacher" or not spec.hard)
    fnd = next(row for row in ROWS if row.name == "FND")
    assert repeats(frozen, fnd, True, True).name == f"FND{FROZEN}"


@pytest.mark.parametrize(
    ("size", "users", "told"),
    [
        ("large", 630, "65.99M"),
        ("xs", 630, "2.85M"),
        ("s", 630, "13.88M"),
        ("m", 630, "28.10M"),
        ("large", 519, "65.97M"),
        ("xs", 519, "2.83M"),
        ("s", 519, "13.86M"),
        ("m", 519, "28.09M"),
    ],
)
def test_table5_has_the_papers_parameters(size: Any, users: int, told: str) -> None:
    assert table5.told_millions(table5.parameters(size, users)) == told


def test_the_claim_on_drawn_data(study: Study) -> None:
    artifact = claim.build(study)
    [row] = by_name(artifact).values()
    assert row["Random outfits"] == study.data.users.size * 1000
    assert 0 < row["Liked, of all"] < 0.5
    assert row["Lift"] == pytest.approx(row["Liked, of d < 0"] / row["Liked, of all"])
    assert row["Held-out lift"] > 0
    judged = pyarrow.csv.read_csv(study.out / claim.JUDGED_FILE)
    assert judged.num_rows == row["Random outfits"]
    d = judged["d"].to_numpy()
    assert (d < 0).mean() == pytest.approx(row["d < 0"])
    assert d.mean() == pytest.approx(1)  # alpha is in units of the gap


def test_the_claim_where_the_truth_is_unknown(study: Study) -> None:
    """Drawn with other settings: nothing is claimed to be true."""
    demo = study.settings.demo.model_copy(update={"outfits_per_user": 20})
    other = replace(study, settings=study.settings.model_copy(update={"demo": demo}))
    assert claim._world(study) is not None
    assert claim._world(other) is None
