"""Models see the pictures of the size that they were trained on, whatever the settings say."""

from __future__ import annotations

import numpy as np
import pytest

from recjob.catalog.picture_source import FolderPictures
from recjob.errors import DataError
from recjob.inference.model_files import StoredRecommender
from recjob.jobs.model_vectors import model_vectors
from recjob.jobs.pictures import open_pictures
from recjob.store.catalog_store import read_catalog
from recjob.store.database import open_database
from tests.fixtures_shop import Shop
from tests.inference.students import distance, naive_features, student


def test_pictures_of_another_size(shop: Shop) -> None:
    settings = shop.settings
    with open_database(settings) as database, database.connect() as connection:
        catalog = read_catalog(connection)
    user_ids = ("stranger-001", "nobody", catalog.user_ids[-1])
    larger = StoredRecommender(student(), user_ids, image_size=96)
    with pytest.raises(DataError):
        model_vectors(settings, catalog, "larger", larger, "larger")

    pictures = open_pictures(settings, 96)
    names = [f"images/{item}.jpg" for item in catalog.item_ids]
    pictures.add(FolderPictures(shop.folder / "shop"), names, settings.images)
    found = model_vectors(settings, catalog, "larger", larger, "larger")
    for size in (96, settings.images.size):
        packed = open_pictures(settings, size)
        pixels = packed.pixels[packed.rows(catalog.item_image[:4])]
        assert pixels.shape[1] == size
        same = distance(found.features[:4], naive_features(larger.model, pixels))
        assert (same < 1e-4) == (size == 96)

    # Users whom the model does not know have no row, those who left have no user.
    known = [catalog.user_ids.index(name) for name in ("stranger-001", catalog.user_ids[-1])]
    assert found.users.tolist() == sorted(set(known))
    vectors = larger.model.users.weight.detach().numpy()[found.row[found.users]]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors_of(found.users), expected, atol=1e-6)
