"""TensorRT engines from the ONNX files: for this machine's GPU, or ahead of time for others.

Two packages with one Python API: `tensorrt` builds for the GPU that is present; `tensorrt_rtx`
builds for named targets on a machine without a GPU too. Precision is part of the ONNX file
(STRONGLY_TYPED), and float32 means float32: TF32 is off.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from recjob.catalog.hashing import file_sha256
from recjob.errors import RecjobError, SettingsError, UserError
from recjob.inference.export import ExportResult
from recjob.model.recommender import FEATURE_DIM
from recjob.settings import CompileSettings

Network = Literal["item_encoder", "set_encoder"]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> smallest, optimal and largest shape: an optimisation profile."""

TENSORRT: Final = "tensorrt"
TENSORRT_RTX: Final = "tensorrt_rtx"
OPTIMAL_ITEMS: Final = 4
"""Items per outfit that an engine is tuned for: two tops, bottom, shoes."""


@dataclass(frozen=True)
class EngineSpec:
    """Everything that decides whether an engine fits."""

    network: Network
    onnx_sha256: str
    kind: str
    """Package that built it: tensorrt or tensorrt_rtx."""
    version: str
    """Of the package; an engine runs with no other."""
    target: str
    """GPU architecture, "sm89"."""
    shapes: Shapes
    precision: str

    @property
    def key(self) -> str:
        """sha256 (hex) over all of it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EngineFile:
    """A built engine."""

    path: Path
    key: str
    """`EngineSpec.key`; also in the file's name."""
    sha256: str
    network: Network
    kind: str
    target: str
    seconds: float
    bytes: int


def load_package(kind: str) -> Any | None:
    """The module `tensorrt` or `tensorrt_rtx`; None where it is not installed or cannot load."""
    try:
        return importlib.import_module(kind)
    except (ImportError, OSError):  # OSError: a shared library of the driver is missing
        return None


def gpu_target() -> str | None:
    """Architecture of this machine's GPU ("sm90"); None without one."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"


def available_builder() -> str | None:
    """The package that builds engines here; None: `compile` ends with the ONNX files."""
    if gpu_target() is not None and load_package(TENSORRT) is not None:
        return TENSORRT
    return TENSORRT_RTX if load_package(TENSORRT_RTX) is not None else None


def item_shapes(settings: CompileSettings, image_size: int) -> Shapes:
    """Profile of the item encoder."""
    batches = _batches(settings)
    return {"pixels": _shapes([(batch, image_size, image_size, 3) for batch in batches])}


def set_shapes(settings: CompileSettings) -> Shapes:
    """Profile of the set encoder."""
    items = (1, min(OPTIMAL_ITEMS, settings.max_items), settings.max_items)
    sizes = list(zip(_batches(settings), items, strict=True))
    return {
        "features": _shapes([(*size, FEATURE_DIM) for size in sizes]),
        "mask": _shapes([*sizes]),
    }


def engine_specs(
    item_sha256: str,
    set_sha256: str,
    settings: CompileSettings,
    image_size: int,
    kind: str,
    version: str,
    target: str,
) -> tuple[EngineSpec, EngineSpec]:
    """What the two engines of an export must be, to run with `kind` `version` on `target`."""
    common = (kind, version, target)
    return (
        EngineSpec(
            "item_encoder",
            item_sha256,
            *common,
            item_shapes(settings, image_size),
            settings.precision,
        ),
        EngineSpec("set_encoder", set_sha256, *common, set_shapes(settings), "fp32"),
    )


def build_engines(
    exported: ExportResult, folder: Path, settings: CompileSettings, image_size: int
) -> list[EngineFile]:
    """Build both networks for every target, into `folder`; existing files of a key are kept.

    With `tensorrt` the one target is this machine's GPU, with `tensorrt_rtx` those of the settings
    and this machine's GPU where that package supports it.

    Raises:
        UserError: no TensorRT is installed.
        SettingsError: an unknown target.
        RecjobError: TensorRT refuses a network; the message is its first error.
    """
    kind = available_builder()
    package = None if kind is None else load_package(kind)
    if kind is None or package is None:
        raise UserError(
            "no TensorRT here: install the extra tensorrt-rtx (any machine) or tensorrt"
            " (with a GPU), or go on with the ONNX files"
        )
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for target in _targets(package, kind, settings):
        specs = engine_specs(
            exported.item_encoder.sha256,
            exported.set_encoder.sha256,
            settings,
            image_size,
            kind,
            package.__version__,
            target,
        )
        files = (exported.item_encoder.path, exported.set_encoder.path)
        for spec, onnx_path in zip(specs, files, strict=True):
            built.append(_build(package, spec, onnx_path, folder))
    return built


def _build(package: Any, spec: EngineSpec, onnx_path: Path, folder: Path) -> EngineFile:
    path = folder / f"{spec.network}-{spec.target}-{spec.key[:16]}.engine"
    start = time.perf_counter()
    if not path.exists():
        plan = _plan(package, spec, onnx_path)
        temporary = path.with_name(path.name + ".writing")
        temporary.write_bytes(plan)
        temporary.replace(path)
    return EngineFile(
        path=path,
        key=spec.key,
        sha256=file_sha256(path),
        network=spec.network,
        kind=spec.kind,
        target=spec.target,
        seconds=time.perf_counter() - start,
        bytes=path.stat().st_size,
    )


def _plan(trt: Any, spec: EngineSpec, onnx_path: Path) -> bytes:
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_path.read_bytes()) or parser.num_errors:
        raise RecjobError(f"{onnx_path}: TensorRT cannot read it: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if spec.kind == TENSORRT_RTX:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capabilities(trt)[spec.target], 0)
    profile = builder.create_optimization_profile()
    for name, shapes in spec.shapes.items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RecjobError(
            f"{onnx_path}: TensorRT cannot build it for {spec.target}: {log.first_error}"
        )
    return bytes(plan)


def logger(trt: Any) -> Any:
    """A TensorRT logger that keeps the first error, for our own message, and prints nothing."""

    class _Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.first_error = "no reason given"
            self._silent = True

        def log(self, severity: Any, message: str) -> None:
            if self._silent and severity <= trt.ILogger.ERROR:
                self.first_error = " ".join(message.split())
                self._silent = False

    return _Logger()


def _parser_error(parser: Any) -> str:
    return " ".join(parser.get_error(0).desc().split()) if parser.num_errors else "no reason given"


def _targets(trt: Any, kind: str, settings: CompileSettings) -> list[str]:
    here = gpu_target()
    if kind == TENSORRT:
        assert here is not None  # available_builder: tensorrt builds where there is a GPU
        return [here]
    known = _capabilities(trt)
    for target in settings.targets:
        if target not in known:
            raise SettingsError(
                f'compile.targets: tensorrt_rtx cannot build for "{target}"; it knows'
                f" {', '.join(sorted(known))}"
            )
    return list(dict.fromkeys([*settings.targets, *([here] if here in known else [])]))


def _capabilities(trt: Any) -> dict[str, Any]:
    """Target name ("sm89") -> the package's constant."""
    return {
        name.lower(): value
        for name, value in trt.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }


def _batches(settings: CompileSettings) -> tuple[int, int, int]:
    return 1, min(settings.optimal_batch, settings.max_batch), settings.max_batch


def _shapes(
    shapes: list[tuple[int, ...]],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    smallest, optimal, largest = shapes
    return smallest, optimal, largest
