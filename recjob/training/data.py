"""What a recipe trains on: positives of warm users, pictures, and batches with shared negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recjob.catalog.catalog import PADDING, Catalog, Int32Array, Int64Array
from recjob.catalog.negatives import KnownPositives, RandomNegatives, hard_negatives
from recjob.catalog.split import Part, split_parts, warm_users
from recjob.errors import DataError
from recjob.settings import Settings, TrainingSettings
from recjob.training.distributed import Ranks
from recjob.training.draws import Purpose, numpy_draws


@dataclass(frozen=True)
class TrainingData:
    """A catalog, its pictures, and who trains on what."""

    catalog: Catalog
    pixels: NDArray[np.uint8]
    """(n_pictures, S, S, 3), usually a memory map."""
    picture_rows: Int64Array
    """(n_items,) row of `pixels`, or -1 for an item in quarantine."""
    parts: NDArray[np.int8]
    """(n_positives,) the Part of each positive."""
    users: Int32Array
    """(n_warm,) catalog users with a vector; a user's place here is its row in the model."""

    @cached_property
    def model_row(self) -> Int32Array:
        """(n_users,) row in the model of every catalog user, -1 where it has none."""
        rows = np.full(self.catalog.n_users, -1, np.int32)
        rows[self.users] = np.arange(self.users.size, dtype=np.int32)
        return rows

    def positives_of(self, part: Part) -> Int32Array:
        """`(n, 2)` positives (catalog user, outfit) of warm users in a part, pictures present."""
        positives = self.catalog.positives
        keep = (
            (self.parts == part)
            & (self.model_row[positives[:, 0]] >= 0)
            & self.catalog.outfit_usable[positives[:, 1]]
        )
        kept: Int32Array = positives[keep]
        return kept

    @cached_property
    def training_positives(self) -> Int32Array:
        """`(n, 2)` positives that train."""
        return self.positives_of(Part.TRAIN)

    def gather(self, items: Int64Array) -> Tensor:
        """Pictures `(n, 3, S, S)` uint8 (channels last in memory) of items `(n,)`."""
        return torch.from_numpy(self.pixels[self.picture_rows[items]]).permute(0, 3, 1, 2)


def prepare_data(
    catalog: Catalog,
    pixels: NDArray[np.uint8],
    picture_rows: Int64Array,
    settings: Settings,
) -> TrainingData:
    """Split the positives and choose the warm users.

    Raises DataError where there is nothing to learn from.
    """
    parts = split_parts(catalog, settings.split)
    users = warm_users(catalog, parts, settings.users)
    if users.size < 2:
        least = settings.users.min_training_positives
        raise DataError(
            f"catalog: {users.size} users have {least} or more training positives, and training "
            "needs 2; import more interactions or lower users.min_training_positives"
        )
    return TrainingData(catalog, pixels, picture_rows, parts, users)


@dataclass(frozen=True)
class Batch:
    """One step: positives, and negatives that all rows share.

    Where several processes train together each has the whole batch, and `own` are its rows.
    """

    epoch: int
    step: int
    """Counted from 1."""
    positives: Int32Array
    """(B, 2) catalog user and outfit."""
    users: Tensor
    """(B,) int64 rows of the model."""
    outfits: Tensor
    """(B, M) int64 items, -1 padding."""
    negatives: Tensor
    """(K, M) int64 items, -1 padding."""
    own: slice
    """Rows of the batch whose loss this process computes."""
    valid: Tensor | None
    """(B_own, K) bool: False where a shared negative is a training positive of that row's user;
    None where no one is."""


class BatchSource:
    """Draws the batches of an epoch; each epoch shuffles and draws its negatives anew.

    A batch follows from the seed, the epoch and the step alone.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        negatives_per_positive: int,
        hard_share: float,
        mixes: int,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._data = data
        self._positives = data.training_positives
        self._ranks = ranks or Ranks()
        # `batch_size` is of each process, and every process has as many rows.
        per_process = min(batch_size, len(self._positives) // self._ranks.count)
        self._batch_size = per_process * self._ranks.count
        self._per_positive = negatives_per_positive
        self._hard_share = hard_share
        self._mixes = mixes
        self._random = RandomNegatives(data.catalog, self._positives[:, 1])
        self._seed = seed
        # Only what trains may be known here: else negatives would tell of validation and test.
        self._own_positives = KnownPositives(replace(data.catalog, positives=self._positives))

    @classmethod
    def of(
        cls, data: TrainingData, options: TrainingSettings, seed: int, ranks: Ranks
    ) -> BatchSource:
        """The batches that a recipe's settings ask for."""
        return cls(
            data,
            options.batch_size,
            options.negatives_per_positive,
            options.hard_share,
            options.negative_mixes,
            seed,
            ranks,
        )

    @property
    def steps(self) -> int:
        """Batches per epoch; a last smaller batch is left out, other positives every epoch."""
        return len(self._positives) // self._batch_size if self._batch_size else 0

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` (from 1), without the first `first_step` of them."""
        order = numpy_draws(self._seed, Purpose.ORDER, number).permutation(len(self._positives))
        for step in range(first_step, self.steps):
            rows = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield self._batch(self._positives[rows], number, step + 1)

    def _batch(self, positives: Int32Array, epoch: int, step: int) -> Batch:
        catalog = self._data.catalog
        rng = numpy_draws(self._seed, Purpose.NEGATIVES, epoch, step)
        users, outfits = positives.T
        like = np.repeat(outfits, self._per_positive)
        negatives = self._random.draw(like, rng)
        mixed = [mix_anew(negatives, catalog.item_category, rng) for _ in range(self._mixes - 1)]
        n_hard = round(self._hard_share * like.size)
        if n_hard:
            owners = np.repeat(users, self._per_positive)[:n_hard]
            hard = hard_negatives(catalog, self._positives, owners, rng, self._own_positives)
            negatives[:n_hard] = catalog.outfit_items[hard]
        shared = np.concatenate([negatives, *mixed])
        own = self._ranks.own(len(users))
        known = self._own_positives.contains_all(users[own], shared)
        return Batch(
            epoch,
            step,
            positives,
            torch.from_numpy(self._data.model_row[users].astype(np.int64)),
            torch.from_numpy(catalog.outfit_items[outfits].astype(np.int64)),
            torch.from_numpy(shared.astype(np.int64)),
            own,
            torch.from_numpy(~known) if known.any() else None,
        )


def mix_anew(
    outfits: Int32Array, item_category: Int32Array, rng: np.random.Generator
) -> Int32Array:
    """Other outfits `(n, M)` of the same items: those of each category trade places at random.

    A row that would wear an item twice (two tops) keeps its own items.
    """
    mixed = outfits.copy()
    real = outfits != PADDING
    category = np.where(real, item_category[outfits], PADDING)
    for wanted in np.unique(category[real]):
        places = category == wanted
        mixed[places] = rng.permutation(outfits[places])
    ordered = np.sort(mixed, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)).any(axis=1)
    mixed[twice] = outfits[twice]
    return mixed


@dataclass(frozen=True)
class UniqueItems:
    """The items of several sets of outfits, each once, so that a picture is encoded once."""

    items: Int64Array
    """(n,) ascending."""
    places: tuple[Tensor, ...]
    """For each set, `(B, M)` int64 index into `items`; padding points at 0 and is masked."""
    masks: tuple[Tensor, ...]
    """For each set, `(B, M)` bool."""


def unique_items(*sets: Tensor) -> UniqueItems:
    """Items that the outfit sets `(B_i, M)` use, and where."""
    flat = np.concatenate([outfits.numpy().ravel() for outfits in sets])
    items, inverse = np.unique(flat, return_inverse=True)
    if items[0] == PADDING:
        items, inverse = items[1:], np.maximum(inverse - 1, 0)
    places, masks, start = [], [], 0
    for outfits in sets:
        stop = start + outfits.numel()
        places.append(torch.from_numpy(inverse[start:stop].reshape(outfits.shape)))
        masks.append(outfits != PADDING)
        start = stop
    return UniqueItems(items, tuple(places), tuple(masks))
