"""Validation AUC during training: fixed lists, scored by the model as it is."""

from __future__ import annotations

import numpy as np

from recjob.catalog.catalog import PADDING, Float32Array
from recjob.catalog.evaluation_lists import HARD_SHARES, evaluation_lists
from recjob.catalog.split import Part
from recjob.evaluation.protocol import Quality, model_scores, quality
from recjob.inference.embedding import embed_items, user_unit_vectors
from recjob.inference.torch_engine import TorchEngine
from recjob.model.recommender import OutfitRecommender
from recjob.settings import Settings
from recjob.training.compute import Compute
from recjob.training.data import TrainingData
from recjob.training.frozen_features import FrozenFeatures


class Validator:
    """Scores a model on the lists of one part."""

    def __init__(
        self,
        data: TrainingData,
        part: Part,
        settings: Settings,
        compute: Compute,
        seed: int,
        frozen: FrozenFeatures | None = None,
    ) -> None:
        self._data = data
        self._frozen = frozen
        self._compute = compute
        self._batch_size = settings.embed.batch_size
        self.lists = evaluation_lists(
            data.catalog,
            data.parts,
            part,
            settings.evaluation.negatives_per_positive,
            seed,
            users=data.users,
            max_positives=settings.evaluation.max_validation_positives,
            hard_share=HARD_SHARES[settings.evaluation.negatives],
        )
        used = np.unique(self.lists.items)
        self._items = used[used != PADDING].astype(np.int64)

    @property
    def empty(self) -> bool:
        """True where the part has no positives."""
        return len(self.lists.user) == 0

    def quality(self, model: OutfitRecommender) -> Quality:
        """AUC and NDCG per user, averaged; the model's mode is restored."""
        training = model.training
        engine = TorchEngine(model, self._compute.device, self._compute.bf16)
        features = np.zeros((self._data.catalog.n_items, 128), np.float32)
        features[self._items] = self._item_features(model, engine)
        users = user_unit_vectors(model)
        rows = self._data.model_row[self.lists.user]
        scores = model_scores(engine, features, users[rows], self.lists, self._batch_size)
        model.train(training)
        return quality(self.lists, scores)

    def _item_features(self, model: OutfitRecommender, engine: TorchEngine) -> Float32Array:
        """`(n, 128)` of the items of the lists."""
        if self._frozen is not None:
            return self._frozen.item_features(model, self._items, self._batch_size, self._compute)
        rows = self._data.picture_rows[self._items]
        return embed_items(engine, self._data.pixels, rows, self._batch_size)
