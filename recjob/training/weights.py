"""Where the trunk starts: ImageNet, a file, the autoencoder, or nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import get_model_weights

from recjob.errors import DataError, SettingsError
from recjob.model.backbone import Backbone
from recjob.model.torchvision_trunk import ALEXNET

FULLY_CONNECTED_NAMES: Final = {
    f"classifier.{place}.{kind}": f"fully_connected.{place}.{kind}"
    for place in (1, 4)
    for kind in ("weight", "bias")
}
"""torchvision's names of fc6 and fc7, and ours."""
SIDE_BRANCHES: Final = ("aux1.", "aux2.", "AuxLogits.")
"""Classifiers half way through GoogLeNet and Inception, which only helped to train them."""
OLD_DENSENET_NAME: Final = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
"""Names in torchvision's DenseNet weights that its own loader rewrites, norm.1 to norm1."""


def start_backbone(
    backbone: Backbone, weights: str, autoencoder_trunk: dict[str, Tensor] | None
) -> str:
    """Load `weights` ("imagenet", "autoencoder", "none" or a file) into a backbone.

    A file is in torchvision's names for the same model. The trunk is always loaded whole; AlexNet's
    fc6 and fc7 where their widths agree ("large"). Returns what was loaded, in words.

    Raises:
        SettingsError: no network for "imagenet", no autoencoder for "autoencoder", or another
            backbone than AlexNet with it.
        DataError: a file that is missing or holds no such model.
    """
    if weights == "none":
        return "random weights"
    if weights == "autoencoder":
        if backbone.name != ALEXNET:
            raise SettingsError(
                f'weights = "autoencoder" fits backbone = "{ALEXNET}" only, not '
                f'"{backbone.name}"; set weights = "imagenet", "none" or a file'
            )
        if autoencoder_trunk is None:
            raise SettingsError(
                'weights = "autoencoder", but there is no autoencoder; run train-autoencoder first'
            )
        backbone.trunk.load_state_dict(autoencoder_trunk)
        return "the autoencoder's trunk"
    state = _imagenet(backbone.name) if weights == "imagenet" else _file(Path(weights))
    try:
        backbone.trunk.load_state_dict(_trunk_of(state, backbone))
    except RuntimeError:
        called = "AlexNet" if backbone.name == ALEXNET else backbone.name
        raise DataError(
            f"{weights}: holds no {called}; bring torchvision's {backbone.name} weights"
        ) from None
    if backbone.name == ALEXNET:
        own = backbone.state_dict()
        for theirs, ours in FULLY_CONNECTED_NAMES.items():
            if ours in own and theirs in state and own[ours].shape == state[theirs].shape:
                own[ours].copy_(state[theirs])
    return f"weights of {weights}"


def _trunk_of(state: dict[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The part of torchvision's state dict that the trunk has."""
    if backbone.name == ALEXNET:
        features = "features."
        return {
            name.removeprefix(features): tensor
            for name, tensor in state.items()
            if name.startswith(features)
        }
    left_out = (f"{backbone.classifier}.", *SIDE_BRANCHES)
    return {
        OLD_DENSENET_NAME.sub(r"\1\2", name): tensor
        for name, tensor in state.items()
        if not name.startswith(left_out)
    }


def _imagenet(backbone: str) -> dict[str, Tensor]:
    weights = get_model_weights(backbone).DEFAULT
    name = weights.url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if (folder / name).is_file():
        return _file(folder / name)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: another hash than expected
        reason = getattr(error, "reason", error)
        others = '"autoencoder" or "none"' if backbone == ALEXNET else '"none"'
        raise SettingsError(
            f'weights = "imagenet": {name} cannot be downloaded ({reason}); bring the file to '
            f"{folder}, or name it in weights, or set weights = {others}"
        ) from None
    return dict(state)


def _file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(
            f'{path}: no such weights file; weights is "imagenet", "autoencoder", "none" or a file'
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # torchvision publishes .pth only; weights_only admits tensors and refuses code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (bytes that are no pickle raise anything)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a weights file ({reason}); bring it again") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise DataError(f"{path}: holds no named weights")
    return state
