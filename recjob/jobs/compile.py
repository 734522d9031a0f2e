"""Job `compile`: the student to ONNX, checked, and to TensorRT engines."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from recjob.catalog.hashing import file_sha256
from recjob.errors import UserError
from recjob.inference.export import export_student
from recjob.inference.tensorrt_build import available_builder, build_engines
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import load_recommender_of
from recjob.store.models import ModelRow, active, model, newest_candidate, register_engine

ONNX_KIND: Final = "onnx"
SETTINGS_KIND: Final = "compile-settings"
SETTINGS_FILE: Final = "compile.json"
ITEM_ENCODER: Final = "item_encoder"
SET_ENCODER: Final = "set_encoder"


class BuiltEngine(BaseModel):
    """An engine that was built and registered."""

    model_config = ConfigDict(frozen=True)

    network: str
    builder: str
    target: str
    file: str
    megabytes: float
    build_seconds: float


class CompileResult(JobResult):
    """What the student was compiled to."""

    model: str
    item_encoder_difference: float
    """Largest distance of unit vectors between ONNX Runtime and torch."""
    set_encoder_difference: float
    engines: tuple[BuiltEngine, ...]
    note: str
    """Why there are no engines, where there are none."""


def compile_student(context: JobContext, model_id: str | None = None) -> CompileResult:
    """Export a student, check the files against torch, and build engines.

    Without `model_id` it is the one that the gate will decide about: the newest candidate that is
    newer than the active student, else the active one. Where no TensorRT is installed the job ends
    with the ONNX files and says so.

    Raises NotFoundError where there is no such student, UserError for a model of another role.
    """
    settings = context.settings
    with context.stage("read"):
        with context.database.connect() as connection:
            row = student_to_compile(connection, model_id)
        stored = load_recommender_of(context, row)
        context.freeze(model=row.model_id)
    with tempfile.TemporaryDirectory(prefix="recjob-compile-") as scratch:
        folder = Path(scratch)
        with context.stage("export"):
            exported = export_student(stored.model, folder, settings.compile, stored.image_size)
            for network, file in (
                (ITEM_ENCODER, exported.item_encoder),
                (SET_ENCODER, exported.set_encoder),
            ):
                _add(
                    context,
                    row.model_id,
                    file.path,
                    file.path.name,
                    file.sha256,
                    ONNX_KIND,
                    network,
                )
            options = folder / SETTINGS_FILE
            options.write_text(settings.compile.model_dump_json(), encoding="utf-8")
            _add(
                context,
                row.model_id,
                options,
                SETTINGS_FILE,
                SETTINGS_KIND,
                SETTINGS_KIND,
                str(stored.image_size),
            )
        engines = []
        if available_builder() is not None:
            with context.stage("engines") as stage:
                engines = build_engines(exported, folder, settings.compile, stored.image_size)
                for engine in engines:
                    name = f"engines/{engine.path.name}"
                    _add(
                        context,
                        row.model_id,
                        engine.path,
                        name,
                        engine.key,
                        engine.kind,
                        engine.target,
                    )
                stage.items = len(engines)
    return CompileResult(
        model=row.model_id,
        item_encoder_difference=exported.item_encoder.max_difference,
        set_encoder_difference=exported.set_encoder.max_difference,
        engines=tuple(
            BuiltEngine(
                network=engine.network,
                builder=engine.kind,
                target=engine.target,
                file=f"engines/{engine.path.name}",
                megabytes=engine.bytes / 1e6,
                build_seconds=engine.seconds,
            )
            for engine in engines
        ),
        note="" if engines else "no TensorRT is installed here; embed runs in torch",
    )


def student_to_compile(connection: Connection, model_id: str | None) -> ModelRow:
    """The student `model_id`; None: the one that the gate will decide about, else the active one.

    Raises NotFoundError where there is no such student, UserError for a model of another role.
    """
    if model_id is None:
        return newest_candidate(connection, "student") or active(connection, "student")
    row = model(connection, model_id)
    if row.role != "student":
        raise UserError(f"{model_id} is no student but of role {row.role}, which nothing runs")
    return row


def _add(
    context: JobContext, model_id: str, source: Path, name: str, key: str, kind: str, target: str
) -> None:
    """Copy a file into the model's folder and register it."""
    with context.artifacts.add_file(model_id, name) as path:
        shutil.copyfile(source, path)
        sha256 = file_sha256(path)
    with context.database.begin() as connection:
        register_engine(
            connection,
            model_id=model_id,
            key=key,
            file=name,
            sha256=sha256,
            kind=kind,
            target=target,
        )
