"""Part of `evaluate`: every method's top lists over the whole catalog, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int8Array, Int32Array, Int64Array
from recjob.catalog.split import Part, part_positives
from recjob.evaluation.full_ranking import (
    ListQuality,
    list_quality,
    outfit_surprises,
    random_lists,
)
from recjob.inference.embedding import embed_outfits
from recjob.jobs.model_vectors import ModelVectors
from recjob.model.recommender import FEATURE_DIM
from recjob.ranking.popularity import item_counts, outfit_scores
from recjob.ranking.top_k import top_k


@dataclass(frozen=True)
class CatalogRanking:
    """The task: find a user's held-out outfits among all outfits of the catalog.

    Candidates are all outfits whose items have pictures, in stock or not: what a user likes does
    not depend on that. A user's positives of the other parts are no candidates for that user.
    """

    catalog: Catalog
    parts: Int8Array
    k: int
    space: Float32Array
    """(n_outfits, 128) unit vectors in which the diversity of all methods is measured."""

    def of_model(
        self, model: ModelVectors, outfits: Float32Array, users: Int64Array
    ) -> ListQuality:
        """The lists of a model, by its `outfit_vectors`, for users (n,) whom it knows."""
        return self._ranked(users, model.vectors_of(users), outfits)

    def of_popularity(self, users: Int64Array) -> ListQuality:
        """The most popular outfits (the sum of their items' training positives)."""
        scores = outfit_scores(self._item_counts, self.catalog.outfit_items)
        # A product of vectors of length 1 is the score itself.
        ones = np.ones((users.size, 1), np.float32)
        return self._ranked(users, ones, scores[:, None].astype(np.float32))

    def of_chance(self, users: Int64Array, seed: int) -> ListQuality:
        """Random lists."""
        lists = random_lists(
            users.size, self.k, self.catalog.outfit_usable, self._exclusions(users), seed
        )
        return self._quality(users, lists)

    def _ranked(
        self, users: Int64Array, user_vectors: Float32Array, outfits: Float32Array
    ) -> ListQuality:
        lists, _ = top_k(
            user_vectors,
            outfits,
            self.k,
            exclude=self._exclusions(users),
            allowed=self.catalog.outfit_usable,
        )
        return self._quality(users, lists)

    def _quality(self, users: Int64Array, lists: Int64Array) -> ListQuality:
        test = self._rows(part_positives(self.catalog, self.parts, Part.TEST), users)
        surprise = outfit_surprises(self.catalog.outfit_items, self._item_counts)
        return list_quality(lists, test, self.catalog.outfit_usable, surprise, self.space)

    @property
    def _item_counts(self) -> Int64Array:
        return item_counts(self.catalog, part_positives(self.catalog, self.parts, Part.TRAIN))

    def _exclusions(self, users: Int64Array) -> tuple[Int64Array, Int64Array]:
        """CSR of what each of the users liked in the other parts."""
        rows, outfits = self._rows(self.catalog.positives[self.parts != Part.TEST], users).T
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=users.size))])
        return indptr.astype(np.int64), outfits

    def _rows(self, positives: Int32Array, users: Int64Array) -> Int64Array:
        """(n, 2) the positives of these users, with the user's place instead of the user."""
        place = np.full(self.catalog.n_users, PADDING, np.int64)
        place[users] = np.arange(users.size)
        pairs = np.stack([place[positives[:, 0]], positives[:, 1]], axis=1)
        pairs = pairs[pairs[:, 0] != PADDING]
        ordered: Int64Array = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return ordered


def outfit_vectors(catalog: Catalog, model: ModelVectors, batch_size: int) -> Float32Array:
    """(n_outfits, 128) unit vectors; zeros for outfits with an item in quarantine."""
    vectors = np.zeros((catalog.n_outfits, FEATURE_DIM), np.float32)
    usable = np.flatnonzero(catalog.outfit_usable)
    vectors[usable] = embed_outfits(
        model.engine, model.features, catalog.outfit_items[usable], batch_size
    )
    return vectors
