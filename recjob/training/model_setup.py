"""A model made ready for training: on its device, in the fastest layout that it has there."""

from __future__ import annotations

import torch

from recjob.model.recommender import OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.compute import Compute
from recjob.training.convolution import quicken_small_maps


def make_ready(model: OutfitRecommender, options: TrainingSettings, compute: Compute) -> None:
    """Move a model to its device, channels last; compile its trunk where the settings ask."""
    model.to(compute.device).to(memory_format=torch.channels_last)
    if compute.device.type == "cpu" and compute.bf16:
        quicken_small_maps(model.backbone)
    if options.compile:
        # In place, so that the names of the weights stay. The number of pictures differs from
        # step to step: without `dynamic` each number would be compiled anew.
        model.backbone.trunk.compile(dynamic=True)
