"""A model made ready for training: on its device, in the fastest layout that it has there."""

from __future__ import annotations

import torch
from torch import nn

from recjob.model.recommender import OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.compute import Compute
from recjob.training.convolution import quicken_small_maps


def make_ready(model: OutfitRecommender, options: TrainingSettings, compute: Compute) -> None:
    """Move a model to its device, channels last; compile its trunk where the settings ask."""
    model.to(compute.device).to(memory_format=torch.channels_last)
    pool_before_relu(model.backbone)
    if compute.device.type == "cpu" and compute.bf16:
        quicken_small_maps(model.backbone)
    if options.compile:
        # In place, so that the names of the weights stay. The number of pictures differs from
        # step to step: without `dynamic` each number would be compiled anew.
        model.backbone.trunk.compile(dynamic=True)


def pool_before_relu(module: nn.Module) -> None:
    """Where a ReLU stands before a max pooling, change their places, in place.

    Both only compare numbers and pass them on, so values and gradients stay the same to the bit,
    but a quarter of the numbers is left for the ReLU. Layers with weights keep their names. Only
    training asks for this: an engine fuses the ReLU with the convolution before it.
    """
    for child in module.children():
        pool_before_relu(child)
    if not isinstance(module, nn.Sequential):
        return
    for place in range(len(module) - 1):
        first, second = module[place], module[place + 1]
        if isinstance(first, nn.ReLU) and isinstance(second, nn.MaxPool2d):
            module[place], module[place + 1] = second, first
