"""What is known of a trained model beside its weights, in its folder and in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recjob import __version__
from recjob.catalog.catalog import Catalog
from recjob.catalog.fingerprint import data_fingerprint
from recjob.errors import DataError
from recjob.store.artifacts import Role, new_model_id
from recjob.training.fit import TrainedModel

RECORD_FILE = "training.json"


class ModelRecord(BaseModel):
    """How a model came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str
    role: Role
    parent: str | None
    """The teacher of a student."""
    settings: dict[str, Any]
    """The section of the settings that it was trained with."""
    data_fingerprint: str
    metrics: dict[str, Any]
    seed: int
    code_version: str


def new_record(
    role: Role,
    catalog: Catalog,
    section: BaseModel,
    metrics: dict[str, Any],
    seed: int,
    parent: str | None = None,
) -> ModelRecord:
    """The record of a model that was trained just now, with a fresh id."""
    return ModelRecord(
        model_id=new_model_id(role),
        role=role,
        parent=parent,
        settings=section.model_dump(mode="json"),
        data_fingerprint=data_fingerprint(catalog),
        metrics=metrics,
        seed=seed,
        code_version=__version__,
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
        raise DataError(f"{path}: {place}: {first['msg']}; train the model again") from None
