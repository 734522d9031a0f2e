"""A run's key: another one for everything that matters, the same for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recjob.errors import SettingsError
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study
from recjob.settings import Settings


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    values = settings.model_dump()
    for section, update in sections.items():
        values[section] |= update
    return Settings.model_validate(values)


def with_settings(study: Study, **sections: dict[str, Any]) -> Study:
    return study.__class__(**(vars(study) | {"settings": changed(study.settings, **sections)}))


def test_runs_of_a_method_differ_by_what_matters(study: Study) -> None:
    specs = [
        study.student_spec("fnd-cl"),
        study.student_spec("fnd-cl", repeat=1),
        study.student_spec("fnd-cl", hard=True),
        study.student_spec("fnd-cl", alpha_relative=0.5),
        study.student_spec("fnd-cl", size="s"),
        study.student_spec("fnd-cl", augmentations=("erase", "erase")),
        study.student_spec("fnd-cl", contrastive="users"),
        study.student_spec("fnd-cl", batch_size=8),
        study.student_spec("fnd-cl", freeze_backbone=True),
        study.student_spec("fnd"),
        study.student_spec("n-pair"),
        study.student_spec("bpr"),
        study.teacher_spec(),
        study.teacher_spec(hard=True),
        study.autoencoder_spec(),
    ]
    assert len({spec.key for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "sections",
    [
        {"student": {"epochs": 2}},
        {"student": {"temperature": 0.2}},
        {"student": {"contrastive_weight": 0.1}},
        {"teacher": {"epochs": 2}},
        {"autoencoder": {"epochs": 2}},
        {"images": {"size": 96}},
        {"compute": {"precision": "bf16"}},
        {"evaluation": {"max_validation_positives": 5}},
    ],
    ids=str,
)
def test_what_matters_to_fnd_cl(study: Study, sections: dict[str, dict[str, Any]]) -> None:
    other = with_settings(study, **sections)
    assert other.student_spec("fnd-cl").key != study.student_spec("fnd-cl").key


@pytest.mark.parametrize(
    "sections",
    [
        {"student": {"prefetch": 0, "checkpoint_minutes": 1.0}},
        {"student": {"momentum": 0.5, "plateau_patience": 3}},  # of SGD alone
        {"student": {"alpha": 9.0}},  # alpha_relative counts
        {"student": {"alpha_start": 0.1}},  # without a schedule
        {"compute": {"device": "auto", "threads": 2}},
        {"evaluation": {"bootstrap_draws": 7, "k": 3}},
        {"paper": {"repeats": 2}},
        {"nightly": {"k": 3}},
    ],
    ids=str,
)
def test_what_changes_nothing(study: Study, sections: dict[str, dict[str, Any]]) -> None:
    other = with_settings(study, **sections)
    assert other.student_spec("fnd-cl").key == study.student_spec("fnd-cl").key


@pytest.mark.parametrize(
    "sections",
    [
        {"student": {"alpha_relative": 2.0, "contrastive_temperature": 0.5}},
        {"student": {"augmentations": ("erase", "erase"), "replace_neighbours": 3}},
        {"teacher": {"epochs": 2}},
        {"autoencoder": {"epochs": 2}},
    ],
    ids=str,
)
def test_n_pair_knows_no_teacher_and_no_views(
    study: Study, sections: dict[str, dict[str, Any]]
) -> None:
    spec = study.student_spec("n-pair")
    assert spec.parents == ()
    assert with_settings(study, **sections).student_spec("n-pair").key == spec.key


def test_other_data_are_other_runs(study: Study) -> None:
    other = study.__class__(**(vars(study) | {"digest": "0" * 64}))
    assert other.teacher_spec().key != study.teacher_spec().key


def test_weights_of_a_file_count_by_their_content(study: Study, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    third.write_bytes(b"two")
    keys = [study.student_spec("n-pair", weights=str(path)).key for path in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]


def test_a_student_is_distilled_from_the_teacher_of_its_repeat(study: Study) -> None:
    spec = study.student_spec("fnd", repeat=2, hard=True)
    assert spec.teacher is not None
    assert spec.teacher.key == study.teacher_spec(2, hard=True).key
    assert (spec.settings.seed, spec.teacher.settings.seed) == (3, 3)
    assert spec.settings.student.hard_share == 0.5
    assert spec.teacher.settings.teacher.hard_share == 0.5
    assert spec.settings.evaluation.negatives == "hard"
    assert spec.settings.student.contrastive_weight == 0


def test_the_learning_rate_is_scaled_with_the_batch(study: Study) -> None:
    base = study.settings.student
    scaled = study.student_spec("fnd-cl", batch_size=64).settings.student
    assert scaled.learning_rate == pytest.approx(base.learning_rate * 64 / base.batch_size)
    given = study.student_spec("fnd-cl", batch_size=64, learning_rate=1e-3).settings.student
    assert given.learning_rate == 1e-3


def test_parents_come_first(study: Study) -> None:
    spec = study.student_spec("fnd-cl")
    roles = [one.role for one in spec.with_ancestors()]
    assert roles == ["autoencoder", "teacher", "student"]


def test_values_out_of_range_are_told(study: Study) -> None:
    with pytest.raises(SettingsError, match="batch_size"):
        study.student_spec("fnd", batch_size=1)
    without = with_settings(study, student={"contrastive_weight": 0.0})
    with pytest.raises(SettingsError, match="contrastive_weight is 0"):
        without.student_spec("fnd-cl")


def test_labels_tell_runs_apart(study: Study) -> None:
    def label(spec: RunSpec) -> str:
        return spec.label

    assert label(study.teacher_spec(1)) == "teacher, repeat 2"
    assert label(study.student_spec("n-pair", hard=True)) == "N-pair (hard negatives), repeat 1"
    assert "alpha_relative 0.5" in label(study.student_spec("fnd", alpha_relative=0.5))
