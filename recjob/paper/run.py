"""A finished training and its folder: `runs/<key>/`, whole or not there at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recjob.catalog.disk import sync_file, sync_folder
from recjob.errors import DataError
from recjob.inference.model_files import StoredRecommender, load_autoencoder, load_recommender
from recjob.model.autoencoder import Autoencoder
from recjob.paper.run_spec import RunRole

Float64Array = NDArray[np.float64]
ListKind = Literal["random", "hard"]
LIST_KINDS: Final[tuple[ListKind, ...]] = ("random", "hard")
"""Negatives of the test lists: random outfits, or positives of other users (Sec. 4.4)."""
METRICS: Final = ("auc", "ndcg_mean", "ndcg")

RUN_FILE: Final = "run.json"
USERS_FILE: Final = "per-user.parquet"
FEATURES_FILE: Final = "features.safetensors"
"""Item features of a teacher, which many runs and figures read."""


@dataclass(frozen=True)
class PerUser:
    """Metrics of each user on one kind of test lists."""

    user_ids: tuple[str, ...]
    """(n,) users with a test positive, in the catalog's order."""
    auc: Float64Array
    ndcg_mean: Float64Array
    ndcg: Float64Array


@dataclass(frozen=True)
class Run:
    """A finished training."""

    key: str
    role: RunRole
    label: str
    settings: dict[str, Any]
    """The section of the settings that it was trained with."""
    seed: int
    hard: bool
    frozen: bool
    """Trained on the cached features of a frozen trunk."""
    quality: dict[str, dict[str, float]]
    """auc, ndcg_mean and ndcg on the test part, by kind of lists; none of an autoencoder."""
    validation_auc: float | None
    """On lists of the student's validation half that are the same for every run."""
    seconds: float
    """Training and measuring; of an undisturbed run."""
    device: str
    epochs: list[dict[str, float | None]]
    """loss, validation_auc (of the role's own half) and seconds of each epoch."""
    notes: dict[str, float]
    """Of the recipe: the teacher's gap, alpha, mean d, share of d < 0."""
    folder: Path

    @property
    def test(self) -> dict[str, float]:
        """auc, ndcg_mean and ndcg on the lists that this run is for: hard ones where `hard`."""
        return self.quality[self._kind]

    @property
    def per_user_auc(self) -> Float64Array:
        """`(n,)` AUC of each user on the lists of `test`."""
        return self.per_user(self._kind).auc

    def per_user(self, kind: ListKind) -> PerUser:
        """Metrics of each user; the same users in the same order for every run of a study."""
        return self._per_user[kind]

    def load(self) -> StoredRecommender:
        """The model; not of an autoencoder."""
        return load_recommender(self.folder)

    def load_autoencoder(self) -> Autoencoder:
        """The model of an autoencoder."""
        return load_autoencoder(self.folder)

    @property
    def _kind(self) -> ListKind:
        return "hard" if self.hard else "random"

    @cached_property
    def _per_user(self) -> dict[ListKind, PerUser]:
        table = pq.read_table(self.folder / USERS_FILE)
        found: dict[ListKind, PerUser] = {}
        for kind in LIST_KINDS:
            rows = table.filter(pa.compute.equal(table["kind"], kind))
            values = [rows[name].to_numpy().astype(np.float64) for name in METRICS]
            found[kind] = PerUser(tuple(rows["user_id"].to_pylist()), *values)
        return found


def read_run(folder: Path) -> Run | None:
    """The run in `folder`, or None where there is none; DataError where it is damaged."""
    path = folder / RUN_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Run(**values, folder=folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); delete the folder {folder} to compute it anew"
        ) from None


def write_run(
    run: Run, per_user: dict[ListKind, PerUser], write_model: Callable[[Path], None]
) -> None:
    """Write `run.folder`, whole or not at all; `write_model` puts the model's files there."""
    new = run.folder.with_name(f".new-{run.folder.name}")
    shutil.rmtree(new, ignore_errors=True)  # left by a killed run
    new.mkdir(parents=True)
    write_model(new)
    if per_user:
        pq.write_table(_per_user_table(per_user), new / USERS_FILE)
    values = {name: getattr(run, name) for name in Run.__dataclass_fields__ if name != "folder"}
    (new / RUN_FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")
    for path in new.iterdir():
        sync_file(path)
    sync_folder(new)
    new.rename(run.folder)
    sync_folder(run.folder.parent)


def _per_user_table(per_user: dict[ListKind, PerUser]) -> pa.Table:
    return pa.table(
        {
            "kind": [kind for kind, users in per_user.items() for _ in users.user_ids],
            "user_id": [name for users in per_user.values() for name in users.user_ids],
            **{
                name: np.concatenate([getattr(users, name) for users in per_user.values()])
                for name in METRICS
            },
        }
    )
