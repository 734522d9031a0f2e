"""Real engines, built ahead of time by tensorrt_rtx; running them needs a GPU."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from recjob.errors import RecjobError, SettingsError, UserError
from recjob.inference import tensorrt_build as module
from recjob.inference.export import ExportResult
from recjob.inference.tensorrt_build import (
    EngineSpec,
    available_builder,
    build_engines,
    engine_specs,
    gpu_target,
    load_package,
)
from tests.inference.students import FP16, FP32, SIDE

SETTINGS = FP32.model_copy(update={"targets": ("sm89", "sm120")})

pytestmark = pytest.mark.skipif(gpu_target() is not None, reason="a GPU's own engines differ")


def test_real_engines_for_every_target(exported_fp32: ExportResult, tmp_path: Path) -> None:
    assert available_builder() == "tensorrt_rtx"
    built = build_engines(exported_fp32, tmp_path, SETTINGS, SIDE)
    assert [(file.network, file.target) for file in built] == [
        ("item_encoder", "sm89"),
        ("set_encoder", "sm89"),
        ("item_encoder", "sm120"),
        ("set_encoder", "sm120"),
    ]
    for file in built:
        plan = file.path.read_bytes()
        assert file.sha256 == hashlib.sha256(plan).hexdigest()
        assert file.bytes == len(plan)
        assert file.kind == "tensorrt_rtx"
    # The weights are inside: 2.5 M parameters of four bytes in the item encoder.
    assert built[0].bytes > 10_000_000
    assert len({file.key for file in built}) == 4
    assert {path.name for path in tmp_path.iterdir()} == {file.path.name for file in built}


def test_a_second_build_keeps_the_files(exported_fp32: ExportResult, tmp_path: Path) -> None:
    one = SETTINGS.model_copy(update={"targets": ("sm89",)})
    first = build_engines(exported_fp32, tmp_path, one, SIDE)
    written = [file.path.stat().st_mtime_ns for file in first]
    second = build_engines(exported_fp32, tmp_path, one, SIDE)
    assert [replace(file, seconds=0) for file in second] == [replace(f, seconds=0) for f in first]
    assert [file.path.stat().st_mtime_ns for file in second] == written


def test_half_precision_builds(exported_fp16: ExportResult, tmp_path: Path) -> None:
    item = build_engines(exported_fp16, tmp_path, FP16, SIDE)[0]
    assert item.bytes < 7_000_000


def test_whatever_decides_whether_an_engine_fits_is_in_its_key() -> None:
    def spec(
        onnx: str = "a",
        side: int = 64,
        kind: str = "tensorrt_rtx",
        version: str = "1.0",
        target: str = "sm89",
        **settings: object,
    ) -> EngineSpec:
        changed = FP32.model_copy(update=settings)
        return engine_specs(onnx, "b", changed, side, kind, version, target)[0]

    others = [
        spec(onnx="x"),
        spec(side=96),
        spec(kind="tensorrt"),
        spec(version="1.1"),
        spec(target="sm90"),
        spec(max_batch=3),
        spec(optimal_batch=1),
        spec(precision="fp16"),
    ]
    assert spec().key == spec(max_items=9).key  # the item encoder knows no outfits
    assert len({spec().key, *(other.key for other in others)}) == 1 + len(others)


def test_an_unknown_target_is_named(exported_fp32: ExportResult, tmp_path: Path) -> None:
    wrong = SETTINGS.model_copy(update={"targets": ("sm90",)})
    with pytest.raises(SettingsError, match=r'cannot build for "sm90"; it knows .*sm89'):
        build_engines(exported_fp32, tmp_path, wrong, SIDE)


def test_a_file_that_tensorrt_cannot_read_is_one_line(
    exported_fp32: ExportResult, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    spoiled = replace(exported_fp32, item_encoder=replace(exported_fp32.item_encoder, path=broken))
    with pytest.raises(RecjobError, match=r"broken.onnx: TensorRT cannot read it: .*parse") as info:
        build_engines(spoiled, tmp_path / "engines", SETTINGS, SIDE)
    assert "\n" not in str(info.value)
    assert list((tmp_path / "engines").iterdir()) == []


def test_without_a_package_the_error_says_what_to_install(
    exported_fp32: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TENSORRT_RTX", "tensorrt_that_is_not_installed")
    assert load_package("tensorrt_that_is_not_installed") is None
    assert available_builder() is None
    with pytest.raises(UserError, match="install the extra tensorrt-rtx"):
        build_engines(exported_fp32, tmp_path, SETTINGS, SIDE)
