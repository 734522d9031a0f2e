"""`distill`: what it warns of, what it registers, and that imports go on while it trains."""

from __future__ import annotations

import csv
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from recjob.errors import LockedError
from recjob.jobs.distill import distill, warn_of_scale
from recjob.jobs.import_tables import ImportResult, import_tables
from recjob.jobs.training_site import training_data
from recjob.jobs.workspace import on_database
from recjob.training.student import distill as train
from tests.fixtures_shop import Shop


@pytest.mark.parametrize(("mean_d", "word"), [(0.2, "less"), (3.5, "harder")])
def test_a_mean_d_far_from_one_is_told(
    mean_d: float, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_scale({"final_mean_d": mean_d, "teacher_gap": 0.23})
    assert f"mean d is {mean_d:.2f}" in caplog.text
    assert word in caplog.text


@pytest.mark.parametrize("notes", [{"final_mean_d": 1.1, "teacher_gap": 0.2}, {}])
def test_a_usual_mean_d_and_other_losses_are_not(
    notes: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_scale(notes)
    assert not caplog.text


def test_imports_go_on_while_it_trains_and_it_registers_a_candidate(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.model_folder("student").name
    Image.new("RGB", (90, 70), "teal").save(tmp_path / "new.png")
    with (tmp_path / "items.csv").open("w", newline="") as file:
        category = shop.rows("SELECT category FROM item LIMIT 1")[0][0]
        csv.writer(file).writerows([["item_id", "category", "image"], ["new", category, "new.png"]])
    import_one = partial(import_tables, folder=tmp_path)
    imported: list[ImportResult] = []

    def train_and_import(*arguments: Any) -> Any:
        imported.append(shop.run("import", import_one))
        return train(*arguments)

    def data(*arguments: Any) -> Any:
        with pytest.raises(LockedError, match=r"distill .* holds catalog"):
            shop.run("import", import_one)
        return training_data(*arguments)

    monkeypatch.setattr("recjob.jobs.distill.training_data", data)
    monkeypatch.setattr("recjob.jobs.distill.train", train_and_import)
    result = shop.run("distill", on_database(distill))
    [one] = imported
    assert (one.items.added, one.pictures_decoded) == (1, 1)
    assert "`python cli.py gate`" in result.next
    rows = dict(shop.rows("SELECT model_id, status FROM model WHERE role = 'student'"))
    assert rows == {before: "active", result.model: "candidate"}
    # It learned from the catalog as it was: the same data as the student before.
    [(fingerprints,)] = shop.rows(
        "SELECT count(DISTINCT data_fingerprint) FROM model WHERE role = 'student'"
    )
    assert fingerprints == 1
