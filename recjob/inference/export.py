"""The student as two ONNX files, checked against torch.

`item_encoder.onnx`: `pixels (B, H, W, 3)` uint8, as they lie in the packed file, to
`features (B, 128)` float32; the normalisation of pixels is inside. B is free, H and W are fixed.
`set_encoder.onnx`: `features (B, M, 128)` float32 and `mask (B, M)` bool (True = item) to
`outfits (B, 128)` float32, not normalised. B and M are free.

With precision fp16 the pixels are normalised in float32, the network from the first convolution on
computes in float16, and inputs and outputs stay as above. The Set Transformer is float32 in either
precision: it is small, and the scores are its output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recjob.catalog.hashing import file_sha256
from recjob.errors import RefusedError
from recjob.inference.embedding import unit
from recjob.inference.engine import Engine
from recjob.inference.onnx_engine import OnnxNetwork
from recjob.inference.torch_engine import TorchEngine
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender, pixels_to_channels_first
from recjob.settings import CompileSettings

ITEM_ENCODER: Final = "item_encoder.onnx"
SET_ENCODER: Final = "set_encoder.onnx"
CHECKED_BATCHES: Final = (1, 2, 5)
"""Batch sizes that both files are checked with; two was traced."""
_TRACED: Final = 2
_TRACED_ITEMS: Final = 3


@dataclass(frozen=True)
class ExportedFile:
    """One ONNX file."""

    path: Path
    sha256: str
    max_difference: float
    """Largest distance of a unit output vector from torch's in float32: no cosine with the output
    can differ by more."""


@dataclass(frozen=True)
class ExportResult:
    """Both files of a student."""

    item_encoder: ExportedFile
    set_encoder: ExportedFile


class _ItemEncoder(nn.Module):
    def __init__(self, model: OutfitRecommender, half: bool) -> None:
        super().__init__()
        self.model = model
        if half:
            model.backbone.trunk = nn.Sequential(_Half(), model.backbone.trunk.half())
            model.backbone.fully_connected.half()
            model.head.half()

    def forward(self, pixels: Tensor) -> Tensor:
        # Cast first: TensorRT takes uint8 for nothing else. Contiguous, or the pooling's special
        # case for channels-last memory ends up in the graph.
        images = pixels_to_channels_first(pixels.float()).contiguous()
        return self.model.encode_items(images).float()


class _Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class _SetEncoder(nn.Module):
    def __init__(self, model: OutfitRecommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_outfits(features, mask)


def export_student(
    model: OutfitRecommender, folder: Path, settings: CompileSettings, image_size: int
) -> ExportResult:
    """Write both files into `folder` and check them; `model` is left as it is.

    Args:
        model: the student, on any device and in any mode.
        folder: made where it does not exist.
        settings: opset, precision, tolerance.
        image_size: side of the pictures in pixels.

    Raises:
        RefusedError: ONNX Runtime's outputs differ from torch's by more than
            `settings.tolerance`; no file is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference = copy.deepcopy(model).float().cpu().eval()
    exact = TorchEngine(reference, "cpu", bf16=False)
    item_file, set_file = folder / ITEM_ENCODER, folder / SET_ENCODER
    item_new, set_new = _writing(item_file), _writing(set_file)
    try:
        difference = _item_difference(
            _export_items(reference, item_new, settings, image_size),
            OnnxNetwork(item_new),
            exact,
            image_size,
        )
        _refuse_beyond(difference, ITEM_ENCODER, settings)
        item = ExportedFile(item_file, file_sha256(item_new), difference)
        _export_sets(reference, set_new, settings)
        difference = _set_difference(OnnxNetwork(set_new), exact, settings.max_items)
        _refuse_beyond(difference, SET_ENCODER, settings)
        sets = ExportedFile(set_file, file_sha256(set_new), difference)
        item_new.replace(item_file)
        set_new.replace(set_file)
    finally:
        item_new.unlink(missing_ok=True)
        set_new.unlink(missing_ok=True)
    return ExportResult(item, sets)


def _export_items(
    model: OutfitRecommender, path: Path, settings: CompileSettings, image_size: int
) -> nn.Module:
    """Writes the item encoder and returns the module that was traced."""
    encoder = _ItemEncoder(copy.deepcopy(model), settings.precision == "fp16")
    pixels = torch.zeros(_TRACED, image_size, image_size, 3, dtype=torch.uint8)
    free: Any = torch.export.Dim.DYNAMIC
    _export(encoder, (pixels,), ({0: free},), ["pixels"], ["features"], ["batch"], path, settings)
    return encoder


def _export_sets(model: OutfitRecommender, path: Path, settings: CompileSettings) -> None:
    features = torch.zeros(_TRACED, _TRACED_ITEMS, FEATURE_DIM)
    mask = torch.ones(_TRACED, _TRACED_ITEMS, dtype=torch.bool)
    free: Any = torch.export.Dim.DYNAMIC
    dynamic = ({0: free, 1: free}, {0: free, 1: free})
    names = ["features", "mask"]
    axes = ["batch", "items"]
    _export(_SetEncoder(model), (features, mask), dynamic, names, ["outfits"], axes, path, settings)


def _export(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    dynamic: tuple[dict[int, Any], ...],
    inputs: list[str],
    outputs: list[str],
    axes: Sequence[str],
    path: Path,
    settings: CompileSettings,
) -> None:
    program = torch.onnx.export(
        module.eval(),
        arguments,
        dynamo=True,
        dynamic_shapes=dynamic,
        input_names=inputs,
        output_names=outputs,
        opset_version=settings.opset,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # dynamo=True returns a program
    proto = program.model_proto
    _make_reproducible(proto, axes)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _make_reproducible(proto: onnx.ModelProto, axes: Sequence[str]) -> None:
    """Leave out what differs from process to process: stack traces, names of symbols.

    `axes` are the names of the free dimensions in the order in which the inputs use them.
    """
    symbols: list[str] = []
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param not in symbols:
                symbols.append(dim.dim_param)
    names = dict(zip(symbols, axes, strict=True))
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names[dim.dim_param]
    del proto.graph.value_info[:]  # shapes that every reader infers for itself
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for part in (*proto.graph.node, *proto.graph.initializer, *proto.graph.input):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in proto.graph.output:
        del value.metadata_props[:]


def _refuse_beyond(difference: float, name: str, settings: CompileSettings) -> None:
    if not difference <= settings.tolerance:  # NaN is refused too
        raise RefusedError(
            f"{name}: the exported network differs from torch in float32 by {difference:.2e}, more"
            f" than compile.tolerance {settings.tolerance:.2e} (precision {settings.precision});"
            " no file was written"
        )


@torch.inference_mode()
def _item_difference(
    traced: nn.Module, network: OnnxNetwork, exact: Engine, image_size: int
) -> float:
    """On noise, on black and on white pictures, in batches of several sizes.

    The traced module runs too: on a CPU, ONNX Runtime computes float16 graphs in float32 and would
    not notice an overflow.
    """
    rng = np.random.default_rng(0)
    side = (image_size, image_size, 3)
    noise = rng.integers(0, 256, (max(CHECKED_BATCHES), *side), dtype=np.uint8)
    flat = np.stack([np.zeros(side, np.uint8), np.full(side, 255, np.uint8)])
    distances = []
    for batch in (*(noise[:size] for size in CHECKED_BATCHES), flat):
        expected = exact.encode_items(batch)
        distances.append(_distance(network.run(pixels=batch), expected))
        distances.append(_distance(traced(torch.from_numpy(batch)).numpy(), expected))
    return _largest(distances)


def _set_difference(network: OnnxNetwork, exact: Engine, max_items: int) -> float:
    """On outfits of one to `max_items` items, with padding of large values."""
    return _largest(
        [
            _distance(
                network.run(features=features, mask=mask), exact.encode_outfits(features, mask)
            )
            for features, mask in _set_batches(max_items)
        ]
    )


def _set_batches(max_items: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    rng = np.random.default_rng(0)
    for batch in CHECKED_BATCHES:
        for width in sorted({1, min(_TRACED_ITEMS, max_items), max_items}):
            mask = np.arange(width) < rng.integers(1, width + 1, (batch, 1))
            features = rng.normal(size=(batch, width, FEATURE_DIM)).astype(np.float32)
            yield np.where(mask[:, :, None], features, np.float32(1e3)), mask


def _distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.linalg.norm(unit(found) - unit(expected), axis=-1).max())


def _largest(distances: list[float]) -> float:
    return float(np.max(distances))  # NaN, where there is one: max() may pass it over


def _writing(path: Path) -> Path:
    return path.with_name(path.name + ".writing")
