"""Any classification model of torchvision as a trunk: its classifier taken out, its width found."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Final

import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from recjob.errors import SettingsError

ALEXNET: Final = "alexnet"
"""The paper's, in sizes of its own (`backbone.py`)."""
REFUSED: Final = "mnasnet"
"""These refuse weights without torch's own record of versions, which safetensors do not keep."""
ONE_SIDE: Final = ("vit_", "maxvit_")
"""Models of these names take pictures of one side only."""
CLASSES: Final = 7
"""Classes that a model is built with, so that its classifier can be told from its other layers."""
NEAR_NAMES: Final = 5
"""Names that a misspelt one is answered with."""
WITHOUT_SIDE_BRANCHES: Final[dict[str, dict[str, bool]]] = {
    # Their weights come from another framework, which scaled pixels otherwise.
    name: {"aux_logits": False, "init_weights": True, "transform_input": True}
    for name in ("googlenet", "inception_v3")
}


@dataclass(frozen=True)
class TorchvisionTrunk:
    """A classification model without its classifier."""

    module: nn.Module
    """Normalised pixels `(B, 3, S, S)` to features `(B, width)`."""
    width: int
    classifier: str
    """The place that the classifier was taken from: "fc", "classifier.3"."""
    least_side: int
    """Smaller pictures must be enlarged to this side."""
    most_side: int | None
    """Larger pictures must be reduced to this side; None: any is welcome."""
    mean: tuple[float, ...]
    """Of the three channels, in [0, 1], as its ImageNet weights expect."""
    deviation: tuple[float, ...]


def backbone_names() -> list[str]:
    """What `backbone` may be, sorted."""
    names: list[str] = list_models(module=torchvision.models)
    return sorted(name for name in names if not name.startswith(REFUSED))


def check_backbone_name(name: str) -> None:
    """Raise SettingsError with the nearest names unless there is such a backbone."""
    known = backbone_names()
    if name in known:
        return
    near = difflib.get_close_matches(name, known, NEAR_NAMES, cutoff=0)
    raise SettingsError(
        f'backbone = "{name}": torchvision {torchvision.__version__} has no such classification '
        f"model; near it are {', '.join(near)}"
    )


def torchvision_trunk(name: str) -> TorchvisionTrunk:
    """Build a model with random weights, and take out its last layer.

    What comes before the last layer stays, with the model's own dropout and batch norm.

    Raises SettingsError for a name that torchvision does not have.
    """
    check_backbone_name(name)
    weights = get_model_weights(name).DEFAULT
    least_side = int(weights.meta["min_size"][0])
    arguments: dict[str, Any] = dict(WITHOUT_SIDE_BRANCHES.get(name, {}))
    if name.startswith("vit_"):
        arguments["image_size"] = least_side  # the side of its ImageNet weights
    model = get_model(name, weights=None, num_classes=CLASSES, **arguments)
    classifier, width = _last_layer(model)
    model.set_submodule(classifier, nn.Identity())
    transforms = weights.transforms()
    return TorchvisionTrunk(
        model,
        width,
        classifier,
        least_side,
        least_side if name.startswith(ONE_SIDE) else None,
        tuple(transforms.mean),
        tuple(transforms.std),
    )


def _last_layer(model: nn.Module) -> tuple[str, int]:
    """Name and input width of the layer that gives the classes (in SqueezeNet a convolution)."""
    found: tuple[str, int] | None = None
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.out_features == CLASSES:
            found = name, layer.in_features
        elif isinstance(layer, nn.Conv2d) and layer.out_channels == CLASSES:
            found = name, layer.in_channels
    assert found is not None  # every classification model gives its classes in one layer
    return found
