"""A tiny drawn shop on which every job ran once: the session's, and copies to change."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from recjob.catalog.synthetic import write_demo
from recjob.settings import Settings, load_settings
from recjob.store.database import open_database
from recjob.store.embedded import SUPERUSER, EmbeddedServer
from tests.command_line import environment
from tests.fixtures_database import TEMPLATE

if TYPE_CHECKING:
    from recjob.jobs.runner import JobContext, R
    from recjob.jobs.stages import JobResult

K = 10
SETTINGS = f"""
seed = 1

[compute]
device = "cpu"
precision = "fp32"
threads = 1

[images]
size = 64

[demo]
items = 60
users = 12
cold_starters = 3
strangers = 2
outfits_per_user = 16
image_size = 64

[autoencoder]
epochs = 1
batch_size = 16

[teacher]
size = "xs"
epochs = 1
batch_size = 16
weights = "none"
dropout = 0.0

[student]
size = "xs"
epochs = 1
batch_size = 16
weights = "none"
dropout = 0.0

[compile]
max_batch = 8
optimal_batch = 8
max_items = 4

[gate]
min_popularity_lead = -1.0
latency_batches = 1
max_latency_factor = 100.0

[limits]
max_user_loss = 0.5

[nightly]
k = {K}
stranger_pool = 50
"""
"""Small enough for half a minute on one core."""

_numbers = itertools.count(1)

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shop:
    """A drawn shop, its database and its home."""

    folder: Path
    """Holds recjob.toml, `shop/` and `newcomers/` in the import format, and `var/`, the home."""
    url: str
    settings: Settings
    results: Mapping[str, JobResult]
    """What each job returned, by its name."""

    @property
    def variables(self) -> dict[str, str]:
        """For commands that run in `folder`."""
        return environment(self.settings.home, self.url)

    def run(self, name: str, body: Callable[[JobContext], R]) -> R:
        """Run one job."""
        from recjob.jobs.runner import run_job

        with open_database(self.settings) as database:
            return run_job(name, database, self.settings, body)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of an SQL query."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def model_folder(self, role: str) -> Path:
        """Folder of the active model of a role."""
        [(model_id,)] = self.rows(
            "SELECT model_id FROM model WHERE role = %s AND status = 'active'", role
        )
        return self.settings.home / "artifacts" / "models" / str(model_id)

    def lists(self) -> dict[str, list[tuple[str, float]]]:
        """Outfit and score by user, as readers see them."""
        found: dict[str, list[tuple[str, float]]] = {}
        for user, outfit, score in self.rows(
            "SELECT user_id, outfit_id, score FROM current_recommendation "
            "WHERE user_id IS NOT NULL ORDER BY user_id, rank"
        ):
            found.setdefault(user, []).append((outfit, score))
        return found

    def default_list(self) -> list[tuple[str, float]]:
        """Outfit and score of the list for visitors without an id, as readers see them."""
        return self.rows(
            "SELECT outfit_id, score FROM current_recommendation WHERE user_id IS NULL "
            "ORDER BY rank"
        )

    def users(self) -> set[str]:
        """Ids of all users."""
        return {user for (user,) in self.rows("SELECT user_id FROM app_user")}

    def liked(self) -> dict[str, set[str]]:
        """Liked outfits of every user, also of those who like nothing."""
        found: dict[str, set[str]] = {user: set() for user in self.users()}
        for user, outfit in self.rows(
            "SELECT user_id, outfit_id FROM interaction JOIN app_user USING (user_key) "
            "JOIN outfit USING (outfit_key)"
        ):
            found[user].add(outfit)
        return found

    def items_of(self) -> dict[str, list[str]]:
        """Items of every outfit."""
        return dict(
            self.rows(
                "SELECT outfit_id, array_agg(item_id) FROM outfit JOIN outfit_item "
                "USING (outfit_key) JOIN item USING (item_key) GROUP BY outfit_id"
            )
        )

    def wearable(self) -> set[str]:
        """Outfits that are available, as is each of their items, none of them in quarantine."""
        good = {
            item
            for (item,) in self.rows(
                "SELECT item_id FROM item WHERE available AND quarantine_reason IS NULL"
            )
        }
        available = {
            outfit for (outfit,) in self.rows("SELECT outfit_id FROM outfit WHERE available")
        }
        return {
            outfit for outfit, items in self.items_of().items() if good.issuperset(items)
        } & available

    def outfit_vectors(self) -> dict[str, Float64Array]:
        """Outfit vectors of the student in float64, from its artifact, by outfit id."""
        [file] = self.model_folder("student").glob("embeddings-*.safetensors")
        vectors = load_file(file)["outfits"]
        ids = sorted(outfit for (outfit,) in self.rows("SELECT outfit_id FROM outfit"))
        assert len(ids) == len(vectors)
        return dict(zip(ids, vectors.astype(np.float64), strict=True))

    def user_vectors(self) -> dict[str, Float64Array]:
        """Unit vectors of the warm users in float64, from the student's artifact, by user id."""
        folder = self.model_folder("student")
        vectors = load_file(folder / "users.safetensors")["users.weight"].astype(np.float64)
        ids = json.loads((folder / "users.json").read_text())
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return dict(zip(ids, unit, strict=True))


@pytest.fixture(scope="session")
def trained_shop(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop after `import` twice and `pipeline`; not to be changed."""
    # Here, so that tests without jobs start without torch.
    from recjob.jobs.import_tables import import_tables
    from recjob.jobs.pipeline import run_pipeline
    from recjob.jobs.runner import run_job

    folder = tmp_path_factory.mktemp("shop")
    (folder / "recjob.toml").write_text(SETTINGS)
    url = _new_database(postgres, TEMPLATE)
    settings = _settings(folder, url)
    write_demo(folder / "shop", folder / "newcomers", settings.demo, settings.seed)
    results: dict[str, JobResult] = {}
    with open_database(settings) as database:
        for name in ("shop", "newcomers"):
            body = partial(import_tables, folder=folder / name)
            results[f"import {name}"] = run_job("import", database, settings, body)
        results |= {step.job: step.result for step in run_pipeline(database, settings)}
    return Shop(folder, url, settings, results)


@pytest.fixture
def shop(trained_shop: Shop, postgres: EmbeddedServer, tmp_path: Path) -> Shop:
    """A copy of the shop, to change."""
    return copy_shop(trained_shop, postgres, tmp_path / "shop")


def copy_shop(original: Shop, postgres: EmbeddedServer, folder: Path) -> Shop:
    """A copy in `folder`, with a database of its own; nobody may be using the original's."""
    shutil.copytree(original.folder, folder, copy_function=_copy)
    url = _new_database(postgres, original.url.split("?")[0].rsplit("/")[-1])
    return Shop(folder, url, _settings(folder, url), original.results)


def _settings(folder: Path, url: str) -> Settings:
    return load_settings(folder / "recjob.toml", environment(folder / "var", url))


def _new_database(postgres: EmbeddedServer, template: str) -> str:
    name = f"shop_{next(_numbers)}"
    with psycopg.connect(
        host=str(postgres.url.query["host"]), user=SUPERUSER, dbname=SUPERUSER, autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return str(postgres.url.set(database=name))


def _copy(source: str, target: str) -> None:
    """Copy a file; models, which are never written in place, are linked."""
    if Path(source).suffix in (".safetensors", ".engine", ".onnx"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
