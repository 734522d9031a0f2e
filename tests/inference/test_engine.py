"""The contract of engines: every engine that runs here goes through it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recjob.inference.engine import Engine
from recjob.inference.export import ExportResult
from recjob.inference.onnx_engine import OnnxEngine
from recjob.inference.tensorrt_build import available_builder, build_engines, gpu_target
from recjob.inference.tensorrt_engine import TensorRTEngine
from recjob.inference.torch_engine import TorchEngine
from tests.inference.students import (
    FP32,
    SIDE,
    distance,
    features,
    naive_features,
    pictures,
    student,
)

TOLERANCES = {  # of items, of outfits: distance between unit vectors
    "torch fp32": (1e-5, 1e-5),
    "torch bf16": (3e-2, 1e-5),
    "onnx fp32": (1e-5, 1e-5),
    "onnx fp16": (3e-3, 1e-5),
    "torch cuda": (3e-2, 1e-3),
    "tensorrt": (1e-3, 1e-3),
}
NEEDS_GPU = {"torch cuda", "tensorrt"}


def build(kind: str, request: pytest.FixtureRequest, folder: Path) -> Engine:
    if kind.startswith("torch"):
        return TorchEngine(student(), "cuda" if kind in NEEDS_GPU else "cpu", kind != "torch fp32")
    precision = "fp16" if kind == "onnx fp16" else "fp32"
    exported: ExportResult = request.getfixturevalue(f"exported_{precision}")
    if kind.startswith("onnx"):
        return OnnxEngine(exported.item_encoder.path, exported.set_encoder.path)
    package = available_builder()
    assert package is not None
    built = build_engines(exported, folder, FP32, SIDE)
    mine = {file.network: file.path for file in built if file.target == gpu_target()}
    return TensorRTEngine(package, mine["item_encoder"], mine["set_encoder"])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=pytest.mark.gpu if kind in NEEDS_GPU else ())
        for kind in TOLERANCES
    ],
)
def engine_and_tolerances(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Engine, float, float]:
    return build(request.param, request, tmp_path_factory.mktemp("engine")), *TOLERANCES[
        request.param
    ]


class TestEngine:
    @pytest.fixture(autouse=True)
    def _engine(self, engine_and_tolerances: tuple[Engine, float, float]) -> None:
        self.engine, self.item_tolerance, self.outfit_tolerance = engine_and_tolerances

    def test_items_are_the_papers_network(self) -> None:
        images = np.concatenate(
            [pictures(5), np.zeros_like(pictures(1)), np.full_like(pictures(1), 255)]
        )
        found = self.engine.encode_items(images)
        assert found.shape == (7, 128)
        assert found.dtype == np.float32
        expected = naive_features(student(), images)
        assert distance(found, expected) < self.item_tolerance
        # Different pictures have different features, or the line above would say little.
        assert distance(found[:1], expected[1:2]) > 0.1

    def test_an_item_does_not_depend_on_its_batch(self) -> None:
        images = pictures(9)
        batch = self.engine.encode_items(images)
        singles = np.concatenate([self.engine.encode_items(images[i : i + 1]) for i in range(9)])
        assert distance(batch, singles) < self.item_tolerance
        reverse = self.engine.encode_items(images[::-1])[::-1]
        assert distance(batch, reverse) < self.item_tolerance

    def test_outfits_are_the_models(self) -> None:
        model = student().double().eval()
        items, mask = features(9, 5), np.arange(5) < np.arange(9)[:, None] % 5 + 1
        found = self.engine.encode_outfits(items, mask)
        assert found.shape == (9, 128)
        assert found.dtype == np.float32
        with torch.no_grad():
            expected = model.encode_outfits(
                torch.from_numpy(items.astype(np.float64)), torch.from_numpy(mask)
            ).numpy()
        assert distance(found, expected) < self.outfit_tolerance
        assert distance(found[:1], expected[1:2]) > 0.1

    def test_an_outfit_does_not_depend_on_its_batch(self) -> None:
        items, mask = features(9, 3), np.ones((9, 3), np.bool_)
        batch = self.engine.encode_outfits(items, mask)
        for i in range(9):
            single = self.engine.encode_outfits(items[i : i + 1], mask[i : i + 1])
            assert distance(single, batch[i : i + 1]) < self.outfit_tolerance

    def test_the_order_of_items_does_not_matter(self) -> None:
        items, mask = features(4, 6), np.ones((4, 6), np.bool_)
        mask[:, 4:] = False
        order = np.random.default_rng(0).permutation(6)
        found = self.engine.encode_outfits(items[:, order], mask[:, order])
        assert distance(found, self.engine.encode_outfits(items, mask)) < self.outfit_tolerance

    @pytest.mark.parametrize("n_items", [1, 3])
    def test_padding_does_not_matter(self, n_items: int) -> None:
        items = features(4, n_items)
        plain = self.engine.encode_outfits(items, np.ones((4, n_items), np.bool_))
        padded = np.concatenate([items, 1e3 * features(4, 2, seed=1)], axis=1)
        mask = np.arange(n_items + 2) < np.full((4, 1), n_items)
        assert distance(self.engine.encode_outfits(padded, mask), plain) < self.outfit_tolerance

    def test_read_only_and_empty_batches(self) -> None:
        images = pictures(2)
        images.setflags(write=False)
        assert self.engine.encode_items(images).shape == (2, 128)
        assert self.engine.encode_items(images[:0]).shape == (0, 128)
        none = self.engine.encode_outfits(features(0, 3), np.ones((0, 3), np.bool_))
        assert none.shape == (0, 128)

    def test_it_has_a_name(self) -> None:
        assert self.engine.name.split()[0] in {"torch", "onnx", "tensorrt", "tensorrt_rtx"}
