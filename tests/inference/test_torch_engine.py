import pytest
import torch

from recjob.inference.torch_engine import TorchEngine
from tests.inference.students import pictures, student


@pytest.mark.parametrize("bf16", [False, True])
def test_the_model_keeps_its_weights_and_dropout_is_off(bf16: bool) -> None:
    model = student("s").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = TorchEngine(model, "cpu", bf16=bf16)
    first, second = engine.encode_items(pictures(2)), engine.encode_items(pictures(2))
    assert (first == second).all()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert engine.name == f"torch cpu {'bf16' if bf16 else 'fp32'}"


def test_training_goes_on_after_the_engine_ran() -> None:
    model = student()
    with torch.autocast("cpu", torch.bfloat16):  # its cache of weights must not hold inference's
        TorchEngine(model, "cpu", bf16=True).encode_items(pictures(2))
        model.train()
        images = torch.from_numpy(pictures(2)).permute(0, 3, 1, 2)
        model.encode_items(images).sum().backward()  # type: ignore[no-untyped-call]
    gradient = model.head.get_parameter("0.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
