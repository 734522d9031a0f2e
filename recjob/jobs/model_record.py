"""What is known of a trained model beside its weights, in its folder and in the registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recjob.catalog.catalog import Catalog
from recjob.catalog.fingerprint import data_fingerprint
from recjob.errors import DataError, one_line
from recjob.settings import Settings
from recjob.store.artifacts import Role, new_model_id
from recjob.training.fit import TrainedModel
from recjob.version import source_version

RECORD_FILE = "training.json"

log = logging.getLogger(__name__)


class ModelRecord(BaseModel):
    """How a model came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str
    role: Role
    parent: str | None
    """The teacher of a student; the autoencoder that a teacher's trunk began as, if it did."""
    settings: dict[str, Any]
    """The section of the settings that it was trained with, and `split` and `users`, which chose
    what it learned from."""
    data_fingerprint: str
    metrics: dict[str, Any]
    seed: int
    code_version: str


def new_record(
    role: Role,
    catalog: Catalog,
    settings: Settings,
    metrics: dict[str, Any],
    parent: str | None = None,
) -> ModelRecord:
    """The record of a model that was trained just now, with a fresh id."""
    return ModelRecord(
        model_id=new_model_id(role),
        role=role,
        parent=parent,
        settings=recorded_settings(role, settings),
        data_fingerprint=data_fingerprint(catalog),
        metrics=metrics,
        seed=settings.seed,
        code_version=source_version(),
    )


def recorded_settings(role: Role, settings: Settings) -> dict[str, Any]:
    """What the record of a model of this role says of the settings."""
    section: BaseModel = getattr(settings, role)
    recorded = section.model_dump(mode="json")
    if role != "autoencoder":  # which learns from all pictures alike
        for name in ("split", "users"):
            recorded[name] = getattr(settings, name).model_dump(mode="json")
    return recorded


def of_other_split(recorded: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a model with these `recorded_settings` was trained by another split than today's.

    Then it may have learned from positives that test now. What an older version did not record
    counts as the same; where the data name the parts, nothing else of the split matters.
    """
    then, now = recorded.get("split"), settings.split.model_dump(mode="json")
    return then is not None and then != now and not then["kind"] == now["kind"] == "files"


def warn_of_other_split(name: str, recorded: Mapping[str, Any], settings: Settings) -> None:
    """Say that a model's figures are too good, where `of_other_split`."""
    if of_other_split(recorded, settings):
        log.warning(
            "%s was trained with another [split]: it may have learned from positives that test "
            "here, so its figures flatter it; train it again",
            name,
        )


def training_metrics(trained: TrainedModel) -> dict[str, Any]:
    """Validation, epochs and notes of a recommender's training, for its record."""
    return {
        "validation": None if trained.validation is None else trained.validation.as_dict(),
        "epochs": [
            {
                "loss": epoch.loss,
                "validation_auc": None if epoch.validation is None else epoch.validation.auc,
                "seconds": epoch.seconds,
            }
            for epoch in trained.epochs
        ],
        **trained.notes,
    }


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write the record into a model's folder."""
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=1), encoding="utf-8")


def read_record(folder: Path) -> ModelRecord:
    """Read the record of a model's folder; DataError where it has none."""
    path = folder / RECORD_FILE
    try:
        return ModelRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; name the folder of one trained model") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = one_line(f"{place}: {first['msg']}")
        raise DataError(f"{path}: {reason}; train the model again") from None
