"""Students for the gate: copies of the shop's own, as good as it or spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from recjob.jobs.compile import ONNX_KIND, SETTINGS_KIND
from recjob.jobs.model_record import RECORD_FILE, read_record
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import register_trained
from recjob.store.models import list_engines, register_engine
from tests.fixtures_shop import Shop

Tensors = dict[str, torch.Tensor]
COPIED = ("model.safetensors", "model.json", "users.safetensors", "users.json")


def add_student(
    shop: Shop,
    name: str,
    change: Callable[[Tensors], Tensors] | None = None,
    file: str = "users.safetensors",
    compiled: bool = True,
) -> str:
    """Register a copy of the active student under another id, with one file changed.

    With `compiled` its ONNX files are those of the active one, which know no users.
    """
    original = shop.model_folder("student")

    def body(context: JobContext) -> JobResult:
        record = read_record(original).model_copy(update={"model_id": name})
        with context.artifacts.write_model(name) as folder:
            for part in COPIED:
                shutil.copyfile(original / part, folder / part)
            if change is not None:
                _change(folder / file, change)
            (folder / RECORD_FILE).write_text(record.model_dump_json())
        register_trained(context, record)
        if compiled:
            _share_onnx(context, original, name)
        return JobResult()

    shop.run("models-import", body)
    return name


def _share_onnx(context: JobContext, original: Path, name: str) -> None:
    with context.database.begin() as connection:
        for engine in list_engines(connection, original.name):
            if engine.kind not in (ONNX_KIND, SETTINGS_KIND):
                continue
            with context.artifacts.add_file(name, engine.file) as path:
                shutil.copyfile(original / engine.file, path)
            register_engine(
                connection,
                model_id=name,
                key=engine.key,
                file=engine.file,
                sha256=engine.sha256,
                kind=engine.kind,
                target=engine.target,
            )


def opposite(tensors: Tensors) -> Tensors:
    """Users who like what they disliked."""
    return {name: -values for name, values in tensors.items()}


def _change(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = change(load_file(path))
    path.unlink()
    save_file(tensors, path)
