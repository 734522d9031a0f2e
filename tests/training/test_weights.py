"""Where the trunk starts, and what is said where it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import AlexNet_Weights, alexnet, get_model, get_model_weights

from recjob.errors import DataError, SettingsError
from recjob.model.autoencoder import Autoencoder
from recjob.model.backbone import Backbone
from recjob.training.weights import _trunk_of, start_backbone

IMAGENET_FILE = AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]


@pytest.fixture(scope="module")
def alexnet_trunk() -> dict[str, Tensor]:
    """The convolutions under torchvision's names."""
    torch.manual_seed(8)
    features = alexnet().features.state_dict()
    return {f"features.{name}": tensor for name, tensor in features.items()}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network (a proxy that nobody serves) and an empty cache, whose folder is returned."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def trunk_is(backbone: Backbone, state: dict[str, Tensor]) -> bool:
    own = backbone.trunk.state_dict()
    return all(torch.equal(own[name.removeprefix("features.")], state[name]) for name in state)


def test_none_leaves_random_weights() -> None:
    backbone = Backbone("xs")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    assert start_backbone(backbone, "none", None) == "random weights"
    assert all(torch.equal(before[name], now) for name, now in backbone.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("size", ["xs", "s"])
def test_a_file(size: str, suffix: str, tmp_path: Path, alexnet_trunk: dict[str, Tensor]) -> None:
    path = tmp_path / f"alexnet{suffix}"
    if suffix == ".pth":
        torch.save(alexnet_trunk, path)
    else:
        save_file(alexnet_trunk, path)
    backbone = Backbone(size)  # type: ignore[arg-type]
    rest = {n: t.clone() for n, t in backbone.state_dict().items() if "trunk" not in n}
    assert start_backbone(backbone, str(path), None) == f"weights of {path}"
    assert trunk_is(backbone, alexnet_trunk)
    assert all(torch.equal(backbone.state_dict()[name], tensor) for name, tensor in rest.items())


def test_the_large_size_takes_the_fully_connected_layers_too(
    tmp_path: Path, alexnet_trunk: dict[str, Tensor]
) -> None:
    shapes = {
        "1.weight": (4096, 9216),
        "1.bias": (4096,),
        "4.weight": (4096, 4096),
        "4.bias": (4096,),
    }
    state = dict(alexnet_trunk)
    for value, (name, shape) in enumerate(shapes.items()):
        # One number seen everywhere: a small file with the shapes of the real one.
        state[f"classifier.{name}"] = torch.tensor(float(value)).expand(shape)
    state["classifier.6.weight"] = torch.zeros(1).expand(1000, 4096)
    path = tmp_path / "alexnet.pth"
    torch.save(state, path)
    backbone = Backbone("large")
    start_backbone(backbone, str(path), None)
    own = backbone.fully_connected.state_dict()
    for value, name in enumerate(shapes):
        assert bool((own[name] == value).all()), name
    assert trunk_is(backbone, alexnet_trunk)
    smaller = Backbone("s")
    before = smaller.fully_connected.state_dict()["1.weight"].clone()
    start_backbone(smaller, str(path), None)
    assert torch.equal(smaller.fully_connected.state_dict()["1.weight"], before)


def test_the_autoencoders_trunk() -> None:
    torch.manual_seed(9)
    trunk = dict(Autoencoder(64, 8).backbone.trunk.state_dict())
    backbone = Backbone("xs")
    assert start_backbone(backbone, "autoencoder", trunk) == "the autoencoder's trunk"
    assert all(torch.equal(backbone.trunk.state_dict()[name], trunk[name]) for name in trunk)
    with pytest.raises(SettingsError, match="no autoencoder; run train-autoencoder first"):
        start_backbone(backbone, "autoencoder", None)


def test_imagenet_without_a_network(offline: Path) -> None:
    """The message names the file to bring, where to put it, and what else there is."""
    with pytest.raises(SettingsError) as caught:
        start_backbone(Backbone("xs"), "imagenet", None)
    message = str(caught.value)
    assert "\n" not in message
    assert IMAGENET_FILE == "alexnet-owt-7be5be79.pth"
    for part in ('weights = "imagenet"', IMAGENET_FILE, str(offline), '"autoencoder" or "none"'):
        assert part in message


def test_imagenet_from_the_file_that_was_brought(
    offline: Path, alexnet_trunk: dict[str, Tensor]
) -> None:
    offline.mkdir(parents=True)
    torch.save(alexnet_trunk, offline / IMAGENET_FILE)
    backbone = Backbone("xs")
    assert start_backbone(backbone, "imagenet", None) == "weights of imagenet"
    assert trunk_is(backbone, alexnet_trunk)


def test_imagenet_from_a_file_that_was_cut_short(
    offline: Path, alexnet_trunk: dict[str, Tensor]
) -> None:
    offline.mkdir(parents=True)
    path = offline / IMAGENET_FILE
    torch.save(alexnet_trunk, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=IMAGENET_FILE):
        start_backbone(Backbone("xs"), "imagenet", None)


def other_weights() -> dict[str, Tensor]:
    return {"layer1.weight": torch.zeros(3)}


class Code:
    """What a malicious file would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.pth", None, "no such weights file"),
        ("text.pth", b"hello", "not a weights file"),
        ("text.safetensors", b"hello", "not a weights file"),
        ("empty.pth", b"", "not a weights file"),
        ("other.pth", other_weights(), "holds no AlexNet"),
        ("other.safetensors", other_weights(), "holds no AlexNet"),
        ("numbers.pth", {1: torch.zeros(3)}, "holds no"),
        ("list.pth", [torch.zeros(3)], "holds no named weights"),
        ("code.pth", {"features.0.weight": Code()}, "not a weights file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_used(
    name: str, content: object, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None and path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=reason) as caught:
        start_backbone(Backbone("xs"), str(path), None)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_file_of_another_shape(tmp_path: Path, alexnet_trunk: dict[str, Tensor]) -> None:
    path = tmp_path / "wide.safetensors"
    save_file(alexnet_trunk | {"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(DataError, match="holds no AlexNet; bring torchvision's alexnet weights"):
        start_backbone(Backbone("xs"), str(path), None)


TORCHVISION = "shufflenet_v2_x0_5"
"""A small model of torchvision, whose classifier is called fc."""


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    torch.manual_seed(10)
    return dict(get_model(TORCHVISION, weights=None).state_dict())


def test_a_file_of_another_backbone(tmp_path: Path, theirs: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(theirs, path)
    backbone = Backbone("xs", name=TORCHVISION)
    assert start_backbone(backbone, str(path), None) == f"weights of {path}"
    own = backbone.trunk.state_dict()
    assert theirs.keys() - own.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(own[name], theirs[name]) for name in own)


def test_imagenet_of_another_backbone(offline: Path, theirs: dict[str, Tensor]) -> None:
    """torchvision's default weights of that model; offline the message names their file."""
    backbone = Backbone("xs", name=TORCHVISION)
    file = get_model_weights(TORCHVISION).DEFAULT.url.rsplit("/", 1)[-1]
    with pytest.raises(SettingsError, match=file) as caught:
        start_backbone(backbone, "imagenet", None)
    assert "autoencoder" not in str(caught.value)
    offline.mkdir(parents=True, exist_ok=True)
    torch.save(theirs, offline / file)
    start_backbone(backbone, "imagenet", None)
    assert torch.equal(backbone.trunk.state_dict()["conv1.0.weight"], theirs["conv1.0.weight"])


def test_one_backbone_is_not_the_other(tmp_path: Path, alexnet_trunk: dict[str, Tensor]) -> None:
    path = tmp_path / "alexnet.safetensors"
    save_file(alexnet_trunk, path)
    backbone = Backbone("xs", name=TORCHVISION)
    with pytest.raises(DataError, match=f"holds no {TORCHVISION}; bring torchvision's") as caught:
        start_backbone(backbone, str(path), None)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match='fits backbone = "alexnet" only') as refused:
        start_backbone(backbone, "autoencoder", dict(alexnet_trunk))
    assert "\n" not in str(refused.value)


def test_names_that_torchvision_itself_rewrites_or_leaves_out(tmp_path: Path) -> None:
    """DenseNet's file has names of an old version, GoogLeNet's has side branches."""
    with torch.device("meta"):
        dense, goog = Backbone("xs", name="densenet121"), Backbone("xs", name="googlenet")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name): tensor
        for name, tensor in dense.trunk.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert _trunk_of(old, dense).keys() == dense.trunk.state_dict().keys()
    whole = dict(goog.trunk.state_dict())
    side = {"aux1.fc1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
    assert _trunk_of(whole | side, goog).keys() == whole.keys()
