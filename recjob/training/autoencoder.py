"""Recipe: the autoencoder behind *replace*, and the visual neighbours it gives (Sec. 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int64Array
from recjob.errors import DataError
from recjob.model.autoencoder import Autoencoder
from recjob.settings import Settings
from recjob.training.checkpoint import (
    CheckpointFolder,
    State,
    keeper_of,
    named_part,
    pack_optimizer,
    restore_optimizer,
)
from recjob.training.compute import Compute, choose_compute
from recjob.training.distributed import Ranks
from recjob.training.draws import Purpose, numpy_draws, torch_draws
from recjob.training.fit import Progress
from recjob.training.optimise import OneCycle, guarded_step
from recjob.training.pictures import mirror

NEIGHBOUR_BLOCK: Final = 1024
"""Items whose distances to their category are held at once."""


@dataclass(frozen=True)
class TrainedAutoencoder:
    """The autoencoder and how its training went."""

    model: Autoencoder
    losses: tuple[float, ...]
    """Loss of each epoch."""


def train_autoencoder(
    catalog: Catalog,
    pixels: NDArray[np.uint8],
    picture_rows: Int64Array,
    settings: Settings,
    on_progress: Progress | None = None,
    checkpoints: CheckpointFolder | None = None,
) -> TrainedAutoencoder:
    """Train on every usable picture of the catalog.

    A training that was cut short goes on from the state in `checkpoints`.

    Raises:
        DataError: where the catalog has no usable picture.
        RecjobError: where the loss or a gradient is not finite.
    """
    options = settings.autoencoder
    torch.manual_seed(settings.seed)
    compute = choose_compute(settings.compute)
    usable = np.flatnonzero(catalog.item_usable)
    if usable.size == 0:
        raise DataError("the catalog has no item with a usable picture; import pictures first")
    model = Autoencoder(options.image_size, options.latent_dim)
    model.to(compute.device).to(memory_format=torch.channels_last)
    batch_size = min(options.batch_size, usable.size)
    steps = usable.size // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, fused=True)
    schedule = OneCycle(optimizer, [options.learning_rate], steps * options.epochs, options.warmup)
    size = np.array(pixels.shape)
    keeper = keeper_of("autoencoder", checkpoints, catalog, settings, options, model, Ranks(), size)
    epoch_losses: list[float] = []
    losses: list[float] = []

    def state() -> State:
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        moments = {f"optimizer.{name}": value for name, value in pack_optimizer(optimizer).items()}
        return tensors | moments, [epoch_losses, losses, schedule.state()]

    if (saved := keeper.last()) is not None:
        model.load_state_dict(named_part(saved[0], "model"))
        restore_optimizer(optimizer, named_part(saved[0], "optimizer"))
        epoch_losses, losses, rates = saved[1]
        schedule.restore(rates)
    for epoch in range(len(epoch_losses), options.epochs):
        model.train()
        shuffled = numpy_draws(settings.seed, Purpose.ORDER, epoch + 1).permutation(usable)
        for step in range(len(losses), steps):
            items = shuffled[step * batch_size : (step + 1) * batch_size]
            seen = _pictures(pixels, picture_rows[items], options.image_size, compute)
            flips = torch_draws(settings.seed, Purpose.FLIPS, epoch + 1, step + 1)
            seen = mirror(seen, (torch.rand(batch_size, generator=flips) < 0.5).to(seen.device))
            with compute.autocast():
                reconstruction = model(seen)
            loss = reconstruction_loss(reconstruction.float(), seen / 255, options.chroma_weight)
            where = f"autoencoder, epoch {epoch + 1}, step {step + 1}"
            losses.append(guarded_step(loss, optimizer, schedule, options.clip_norm, where))
            if on_progress is not None:
                done = epoch * steps + step + 1
                note = f"error {epoch_losses[-1]:.4f}" if epoch_losses else ""
                with keeper.saved_when_stopped(state):
                    on_progress(done, steps * options.epochs, note)
            keeper.save_if_due(state)
        epoch_losses.append(float(np.mean(losses)))
        losses = []
    model.eval()
    return TrainedAutoencoder(model, tuple(epoch_losses))


def reconstruction_loss(reconstruction: Tensor, truth: Tensor, chroma_weight: float) -> Tensor:
    """Squared error of pixels `(B, 3, S, S)`, plus that of their colour differences.

    Brightness and outline dominate the plain error, and then neighbours share their shape but not
    their colour. R - G and G - B are free of brightness.
    """
    error = reconstruction - truth
    chroma = error[:, :2] - error[:, 1:]
    return error.square().mean() + chroma_weight * chroma.square().mean()


@torch.no_grad()
def encode_latents(
    model: Autoencoder,
    catalog: Catalog,
    pixels: NDArray[np.uint8],
    picture_rows: Int64Array,
    batch_size: int,
    compute: Compute,
) -> Float32Array:
    """Latents `(n_items, latent_dim)` of every usable item; zeros for the others."""
    model.to(compute.device)
    latents = np.zeros((catalog.n_items, model.latent_dim), np.float32)
    usable = np.flatnonzero(catalog.item_usable)
    for start in range(0, usable.size, batch_size):
        items = usable[start : start + batch_size]
        seen = _pictures(pixels, picture_rows[items], model.image_size, compute)
        with compute.autocast():
            encoded = model.encode(seen)
        latents[items] = encoded.float().cpu().numpy()
    return latents


def latent_neighbours(latents: Float32Array, catalog: Catalog, count: int) -> Int64Array:
    """`(n_items, count)` nearest usable items of the same category by Euclidean distance.

    Nearest first, the item itself left out, -1 where a category has fewer.
    """
    neighbours = np.full((catalog.n_items, count), PADDING, np.int64)
    for category in range(len(catalog.categories)):
        members = np.flatnonzero((catalog.item_category == category) & catalog.item_usable)
        k = min(count, members.size - 1)
        if k < 1:
            continue
        vectors = torch.from_numpy(latents[members])
        for start in range(0, members.size, NEIGHBOUR_BLOCK):
            block = vectors[start : start + NEIGHBOUR_BLOCK]
            distance = torch.cdist(block, vectors)
            rows = torch.arange(len(block))
            distance[rows, start + rows] = torch.inf
            nearest = distance.topk(k, largest=False).indices.numpy()
            neighbours[members[start : start + len(block)], :k] = members[nearest]
    return neighbours


def _pictures(
    pixels: NDArray[np.uint8],
    rows: Int64Array,
    image_size: int,
    compute: Compute,
) -> Tensor:
    """`(B, 3, S, S)` float in [0, 255] at the autoencoder's size."""
    full = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).to(compute.device).float()
    side = (image_size, image_size)
    if full.shape[-2:] == side:
        return full
    return functional.interpolate(full, side, mode="bilinear", antialias=True)
