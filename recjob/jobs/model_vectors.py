"""A trained model that has seen every picture, ready to score whatever outfits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import Catalog, Float32Array, Int32Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.evaluation.metrics import GroupedMetrics
from recjob.evaluation.protocol import metrics_per_user, model_scores
from recjob.inference.embedding import embed_items, user_unit_vectors
from recjob.inference.model_files import StoredRecommender
from recjob.inference.torch_engine import TorchEngine
from recjob.jobs.pictures import open_pictures, with_pictures
from recjob.jobs.progress import progress_bar
from recjob.model.recommender import FEATURE_DIM
from recjob.settings import Settings
from recjob.training.compute import choose_compute


@dataclass(frozen=True)
class ModelVectors:
    """A teacher or a student, from the pictures of the size that it was trained on."""

    model_id: str
    engine: TorchEngine
    features: Float32Array
    """(n_items, 128) item features; zeros for items in quarantine."""
    row: Int32Array
    """(n_users,) row of `user_vectors` of each catalog user, -1 for users without a vector."""
    user_vectors: Float32Array
    """(n, 128) unit vectors."""

    @property
    def users(self) -> Int32Array:
        """(n,) catalog users with a vector, ascending."""
        return np.flatnonzero(self.row >= 0).astype(np.int32)

    def vectors_of(self, users: NDArray[Any]) -> Float32Array:
        """(n, 128) unit vectors of catalog users who have one."""
        vectors: Float32Array = self.user_vectors[self.row[users]]
        return vectors

    def known(self, lists: EvaluationLists) -> EvaluationLists:
        """Those of the lists whose users have a vector."""
        kept = self.row[lists.user] >= 0
        return EvaluationLists(lists.user[kept], lists.items[kept], lists.left_out)

    def metrics(self, lists: EvaluationLists, batch_size: int) -> GroupedMetrics:
        """Metrics of every user of lists that `known` left."""
        scores = model_scores(
            self.engine, self.features, self.vectors_of(lists.user), lists, batch_size
        )
        return metrics_per_user(lists, scores)


def model_vectors(
    settings: Settings, catalog: Catalog, model_id: str, stored: StoredRecommender, label: str
) -> ModelVectors:
    """Run a model's trunk over every item.

    Raises DataError where pictures of its size are missing, NotFiniteError where a vector is not
    finite.
    """
    own = user_unit_vectors(stored.model)
    shop = with_pictures(catalog, open_pictures(settings, stored.image_size))
    compute = choose_compute(settings.compute)
    engine = TorchEngine(stored.model, compute.device, compute.bf16)
    usable = np.flatnonzero(catalog.item_usable)
    features = np.zeros((catalog.n_items, FEATURE_DIM), np.float32)
    with progress_bar(f"{label} features", usable.size) as bar:
        features[usable] = embed_items(
            engine,
            shop.pictures.pixels,
            shop.picture_rows[usable],
            settings.embed.batch_size,
            bar.by,
        )
    row_of = {user_id: row for row, user_id in enumerate(stored.user_ids)}
    row = np.array([row_of.get(user_id, -1) for user_id in catalog.user_ids], np.int32)
    return ModelVectors(model_id, engine, features, row, own)
