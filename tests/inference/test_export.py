from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from recjob.catalog.hashing import file_sha256
from recjob.errors import RefusedError
from recjob.inference.export import ExportResult, export_student
from recjob.inference.onnx_engine import OnnxEngine
from recjob.inference.torch_engine import TorchEngine
from recjob.model.recommender import OutfitRecommender
from recjob.settings import CompileSettings
from tests.inference.students import FP16, FP32, SIDE, distance, pictures, student


# The pooling of "s" depends on the side: a map of 2 x 2 grows to 6 x 6, one of 6 x 6 stays.
@pytest.mark.parametrize("side", [96, 224])
def test_pictures_of_every_side_and_a_model_left_as_it_is(side: int, tmp_path: Path) -> None:
    model = student("s").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = export_student(model, tmp_path, FP32, side)
    assert exported.item_encoder.max_difference < 1e-5
    assert exported.set_encoder.max_difference < 1e-5
    assert all(module.training for module in model.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    engine = OnnxEngine(exported.item_encoder.path, exported.set_encoder.path)
    images = pictures(3, side=side)
    expected = TorchEngine(model, "cpu", bf16=False).encode_items(images)
    assert distance(engine.encode_items(images), expected) < 1e-5


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("squeezenet1_1", FP32),
        # Its many layers take torch's exporter a minute, and half precision much of its features.
        pytest.param(
            "mobilenet_v3_small",
            FP16.model_copy(update={"tolerance": 0.03}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.precision,
)
def test_another_backbone(backbone: str, settings: CompileSettings, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = OutfitRecommender("xs", 2, backbone=backbone)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.5
        elif isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for seed in range(10):  # batch norms get statistics, as if they had been trained
        model.backbone(torch.from_numpy(pictures(8, seed)).permute(0, 3, 1, 2))
    exported = export_student(model, tmp_path, settings, SIDE)
    engine = OnnxEngine(exported.item_encoder.path, exported.set_encoder.path)
    images = pictures(3)
    expected = TorchEngine(model, "cpu", bf16=False).encode_items(images)
    limit = 1e-5 if settings.precision == "fp32" else settings.tolerance
    assert distance(engine.encode_items(images), expected) < limit
    assert distance(expected[:1], expected[1:2]) > 10 * limit


def test_inputs_and_outputs_are_as_documented(exported_fp16: ExportResult) -> None:
    def signature(path: Path) -> dict[str, tuple[int, list[object]]]:
        graph = onnx.load(path).graph
        return {
            value.name: (
                value.type.tensor_type.elem_type,
                [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            )
            for value in (*graph.input, *graph.output)
        }

    types = onnx.TensorProto
    assert signature(exported_fp16.item_encoder.path) == {
        "pixels": (types.UINT8, ["batch", 64, 64, 3]),
        "features": (types.FLOAT, ["batch", 128]),
    }
    assert signature(exported_fp16.set_encoder.path) == {
        "features": (types.FLOAT, ["batch", "items", 128]),
        "mask": (types.BOOL, ["batch", "items"]),
        "outfits": (types.FLOAT, ["batch", 128]),
    }


def test_the_same_weights_give_the_same_bytes(exported_fp32: ExportResult, tmp_path: Path) -> None:
    again = export_student(student(), tmp_path, FP32, SIDE)
    assert again.item_encoder.sha256 == exported_fp32.item_encoder.sha256
    assert again.set_encoder.sha256 == exported_fp32.set_encoder.sha256
    assert again.item_encoder.sha256 == file_sha256(again.item_encoder.path)


def test_half_precision_halves_the_file(
    exported_fp32: ExportResult, exported_fp16: ExportResult
) -> None:
    full, half = exported_fp32.item_encoder, exported_fp16.item_encoder
    assert half.path.stat().st_size < 0.51 * full.path.stat().st_size
    assert full.max_difference < 1e-5 < half.max_difference < 5e-3


def test_no_path_of_the_machine_is_in_the_file(exported_fp32: ExportResult) -> None:
    for file in (exported_fp32.item_encoder, exported_fp32.set_encoder):
        assert str(Path.cwd()).encode() not in file.path.read_bytes()
        assert b"site-packages" not in file.path.read_bytes()


def test_a_difference_beyond_the_tolerance_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    strict = FP32.model_copy(update={"tolerance": 1e-12})
    with pytest.raises(RefusedError, match=r"item_encoder.onnx: .* compile.tolerance 1.00e-12"):
        export_student(student(), tmp_path, strict, SIDE)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_in_half_precision_are_refused(tmp_path: Path) -> None:
    model = student()
    with torch.no_grad():
        next(model.backbone.trunk.parameters()).mul_(1e6)
    assert np.isfinite(TorchEngine(model, "cpu", bf16=False).encode_items(pictures(2))).all()
    with pytest.raises(RefusedError, match="precision fp16"):
        export_student(model, tmp_path, FP16, SIDE)
