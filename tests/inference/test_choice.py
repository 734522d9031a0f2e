from pathlib import Path

import pytest
import torch

from recjob.errors import RecjobError, SettingsError
from recjob.inference import choice
from recjob.inference.choice import CompiledStudent, choose_engine
from recjob.inference.export import ExportResult
from recjob.inference.tensorrt_build import build_engines, gpu_target
from recjob.inference.tensorrt_engine import TensorRTEngine
from tests.inference.students import FP32, SIDE, pictures, student

without_gpu = pytest.mark.skipif(gpu_target() is not None, reason="there is a GPU here")


@pytest.fixture
def compiled(exported_fp32: ExportResult, tmp_path: Path) -> CompiledStudent:
    built = build_engines(exported_fp32, tmp_path, FP32, SIDE)
    return CompiledStudent(
        exported_fp32.item_encoder.sha256, exported_fp32.set_encoder.sha256, SIDE, FP32, built
    )


@without_gpu
def test_without_a_gpu_torch_runs_and_says_why(compiled: CompiledStudent) -> None:
    chosen = choose_engine(student(), compiled, preference="auto", device="cpu", bf16=False)
    assert (chosen.engine.name, chosen.reason) == ("torch cpu fp32", "there is no GPU")
    assert chosen.engine.encode_items(pictures(2)).shape == (2, 128)


@without_gpu
def test_tensorrt_demanded_without_a_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'embed.engine is "tensorrt", but there is no GPU'):
        choose_engine(student(), None, preference="tensorrt", device="cpu", bf16=False)
    (tmp_path / "plan").write_bytes(b"")
    with pytest.raises(RecjobError, match="need the package tensorrt_rtx and a GPU"):
        TensorRTEngine("tensorrt_rtx", tmp_path / "plan", tmp_path / "plan")


def test_torch_demanded_is_torch() -> None:
    chosen = choose_engine(student(), None, preference="torch", device="cpu", bf16=True)
    assert (chosen.engine.name, chosen.reason) == ("torch cpu bf16", "embed.engine is torch")


@pytest.mark.gpu
def test_on_a_gpu_the_matching_engine_runs_and_a_damaged_one_does_not(
    compiled: CompiledStudent,
) -> None:
    model, device = student(), torch.device("cuda")
    chosen = choose_engine(model, compiled, preference="auto", device=device, bf16=True)
    assert chosen.engine.name.startswith("tensorrt")
    compiled.engines[0].path.write_bytes(b"damaged")
    chosen = choose_engine(model, compiled, preference="auto", device=device, bf16=True)
    assert chosen.engine.name == "torch cuda bf16"
    assert "is damaged" in chosen.reason


@without_gpu
def test_a_changed_engine_is_not_loaded(
    compiled: CompiledStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the machine that it was built for: its sha256 is asked before TensorRT is."""
    monkeypatch.setattr(choice, "gpu_target", lambda: compiled.engines[0].target)
    path = compiled.engines[1].path
    whole = path.read_bytes()
    for content, reason in ((whole, "need the package"), (whole[:-1], "is damaged")):
        path.write_bytes(content)
        try:
            with pytest.raises(SettingsError, match=reason):
                choose_engine(student(), compiled, preference="tensorrt", device="cuda", bf16=False)
        finally:
            path.write_bytes(whole)
