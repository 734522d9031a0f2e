"""What `compile` made of a student, and the engine that embeds with it here."""

from __future__ import annotations

from recjob.errors import SettingsError
from recjob.inference.choice import (
    ChosenEngine,
    CompiledStudent,
    choose_engine,
    torch_engine,
)
from recjob.inference.model_files import StoredRecommender
from recjob.inference.tensorrt_build import TENSORRT, TENSORRT_RTX, EngineFile
from recjob.jobs.compile import ITEM_ENCODER, ONNX_KIND, SET_ENCODER, SETTINGS_KIND
from recjob.jobs.runner import JobContext
from recjob.settings import CompileSettings
from recjob.store.models import ModelRow, list_engines
from recjob.training.compute import Compute


def embedding_engine(
    context: JobContext, row: ModelRow, stored: StoredRecommender, compute: Compute
) -> ChosenEngine:
    """The engine of `[embed]` for a student; SettingsError where it is demanded and cannot run."""
    preference = context.settings.embed.engine
    if context.settings.nightly.engine == "ray":
        if preference == "tensorrt":
            raise SettingsError(
                'embed.engine = "tensorrt" does not run on Ray: machines of the cluster embed with '
                'torch; set embed.engine = "torch", or nightly.engine = "local"'
            )
        reason = "machines of the Ray cluster embed with torch"
        return torch_engine(stored.model, compute.device, compute.bf16, reason)
    return choose_engine(
        stored.model,
        compiled_student(context, row),
        preference=preference,
        device=compute.device,
        bf16=compute.bf16,
    )


def compiled_student(context: JobContext, row: ModelRow) -> CompiledStudent | None:
    """What `compile` registered for the student; None where it did not run."""
    with context.database.connect() as connection:
        rows = list_engines(connection, row.model_id)
    onnx = {engine.target: engine.sha256 for engine in rows if engine.kind == ONNX_KIND}
    options = [engine for engine in rows if engine.kind == SETTINGS_KIND]
    if not options or not {ITEM_ENCODER, SET_ENCODER} <= onnx.keys():
        return None
    file = context.artifacts.file(
        row.model_id, options[0].file, options[0].sha256, compile_again(row.model_id)
    )
    return CompiledStudent(
        item_onnx_sha256=onnx[ITEM_ENCODER],
        set_onnx_sha256=onnx[SET_ENCODER],
        image_size=int(options[0].target),
        settings=CompileSettings.model_validate_json(file.read_bytes()),
        engines=[
            EngineFile(
                path=context.artifacts.root / "models" / row.model_id / engine.file,
                key=engine.key,
                sha256=engine.sha256,
                network=ITEM_ENCODER if ITEM_ENCODER in engine.file else SET_ENCODER,
                kind=engine.kind,
                target=engine.target,
                seconds=0.0,
                bytes=0,
            )
            for engine in rows
            if engine.kind in (TENSORRT, TENSORRT_RTX)
        ],
    )


def compile_again(model_id: str) -> str:
    """What makes the compiled forms of a student anew."""
    return f"run `python cli.py compile --model {model_id}`"
