"""Which engine runs here: TensorRT where a GPU and an engine for it are there, else torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from recjob.catalog.hashing import file_sha256
from recjob.errors import RecjobError, SettingsError
from recjob.inference.engine import Engine
from recjob.inference.tensorrt_build import (
    TENSORRT,
    TENSORRT_RTX,
    EngineFile,
    engine_specs,
    gpu_target,
    load_package,
)
from recjob.inference.tensorrt_engine import TensorRTEngine
from recjob.inference.torch_engine import TorchEngine
from recjob.model.recommender import OutfitRecommender
from recjob.settings import CompileSettings


@dataclass(frozen=True)
class ChosenEngine:
    """An engine, and why this one."""

    engine: Engine
    reason: str
    precision: str
    """In which pictures are encoded: fp32, bf16 or fp16."""

    @property
    def kind(self) -> str:
        """torch, onnx, tensorrt or tensorrt_rtx: the first word of the engine's name."""
        return self.engine.name.split()[0]


@dataclass(frozen=True)
class CompiledStudent:
    """What `compile` made of the model, as the registry tells it."""

    item_onnx_sha256: str
    set_onnx_sha256: str
    image_size: int
    settings: CompileSettings
    """Those that it was compiled with."""
    engines: Sequence[EngineFile]


def choose_engine(
    model: OutfitRecommender,
    compiled: CompiledStudent | None,
    *,
    preference: Literal["auto", "tensorrt", "torch"],
    device: torch.device | str,
    bf16: bool,
) -> ChosenEngine:
    """The engine for `model`; on any misfit torch, so that the night goes on.

    Args:
        model: runs in torch, on `device`, with `bf16` or without, where TensorRT does not.
        compiled: None where the model was not compiled.
        preference: "tensorrt" makes a misfit an error, "torch" does not look for engines.
        device: of torch.
        bf16: of torch.

    Raises SettingsError where TensorRT is demanded and cannot run.
    """
    reason = "embed.engine is torch"
    if preference != "torch":
        found = _tensorrt(compiled, torch.device(device))
        if isinstance(found, ChosenEngine):
            return found
        reason = found
        if preference == "tensorrt":
            raise SettingsError(f'embed.engine is "tensorrt", but {reason}')
    return torch_engine(model, device, bf16, reason)


def torch_engine(
    model: OutfitRecommender, device: torch.device | str, bf16: bool, reason: str
) -> ChosenEngine:
    """The model itself as the engine, and why."""
    return ChosenEngine(TorchEngine(model, device, bf16), reason, "bf16" if bf16 else "fp32")


def _tensorrt(compiled: CompiledStudent | None, device: torch.device) -> ChosenEngine | str:
    """The TensorRT engine, or why there is none."""
    target = gpu_target()
    if device.type != "cuda" or target is None:
        return "there is no GPU" if target is None else "compute.device is not cuda"
    if compiled is None:
        return "the model was not compiled"
    by_key = {file.key: file for file in compiled.engines}
    reason = "no TensorRT is installed"
    for kind in (TENSORRT, TENSORRT_RTX):
        package = load_package(kind)
        if package is None:
            continue
        specs = engine_specs(
            compiled.item_onnx_sha256,
            compiled.set_onnx_sha256,
            compiled.settings,
            compiled.image_size,
            kind,
            package.__version__,
            target,
        )
        files = [by_key[spec.key] for spec in specs if spec.key in by_key]
        if len(files) < len(specs):
            reason = f"there is no engine for {kind} {package.__version__} on {target}"
            continue
        try:
            for file in files:
                if file_sha256(file.path) != file.sha256:
                    raise RecjobError(f"{file.path} is damaged (its sha256 differs)")
            engine = TensorRTEngine(kind, files[0].path, files[1].path)
        except (RecjobError, OSError) as error:
            reason = str(error)
            continue
        found = f"an engine for {kind} {package.__version__} on {target}"
        return ChosenEngine(engine, found, compiled.settings.precision)
    return reason
