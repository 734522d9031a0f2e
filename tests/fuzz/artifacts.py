"""What jobs read back: models and their records, indexes, lists, checkpoints, work, pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.catalog.images import PackedImages
from recjob.catalog.list_files import read_lists, write_lists
from recjob.errors import DataError
from recjob.inference.model_files import (
    load_autoencoder,
    load_recommender,
    save_autoencoder,
    save_recommender,
)
from recjob.jobs.embedding_shards import Leftovers
from recjob.jobs.model_record import ModelRecord, read_record, write_record
from recjob.model.autoencoder import Autoencoder
from recjob.model.recommender import OutfitRecommender
from recjob.ranking.index import read_index
from recjob.ranking.index_build import build_index
from recjob.store.artifacts import ArtifactFolder
from recjob.store.work_files import WorkFolder
from recjob.training.checkpoint import CheckpointFolder, Keeper
from tests.catalog.shops import random_shop
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_safetensors
from tests.fuzz.target import Target

USERS = ("u1", "u2")
SIDE = 64
Mutate = Callable[[bytes], SearchStrategy[bytes]]
IDENTITY = {"recipe": "fuzz 1", "catalog": "c"}


def artifacts(scratch: Path) -> tuple[Target, ...]:
    """The targets; their folders lie in `scratch`."""
    return (
        *_recommender(scratch),
        *_autoencoder(scratch),
        _record(scratch),
        *_manifest(scratch),
        *_index(scratch),
        _lists(scratch),
        _checkpoint(scratch),
        _work(scratch),
        _packed_pictures(scratch),
    )


def _json(seed: bytes) -> SearchStrategy[bytes]:
    return st.one_of(mutated_json(seed), mutated_json(seed), mutated_bytes([seed]))


def _tensors(seed: bytes) -> SearchStrategy[bytes]:
    return st.one_of(mutated_safetensors(seed), mutated_safetensors(seed), mutated_bytes([seed]))


def _of_folder(
    folder: Path,
    names: Mapping[str, tuple[Mutate, int]],
    use: Callable[[Path], object],
    scratch: Path,
) -> list[Target]:
    """A target per file, each with a copy of the folder, where the others stay as they are."""
    targets = []
    for name, (inputs, weight) in names.items():
        own = scratch / f"{folder.name}-{name}"
        shutil.copytree(folder, own)
        seed = (own / name).read_bytes()
        targets.append(
            Target(
                f"{folder.name} {name}",
                (seed,),
                lambda _, own=own: use(own),  # type: ignore[misc]
                inputs(seed),
                weight,
                file=own / name,
            )
        )
    return targets


def _recommender(scratch: Path) -> list[Target]:
    folder = scratch / "recommender"
    folder.mkdir()
    save_recommender(folder, OutfitRecommender("xs", len(USERS)), USERS, SIDE)
    names: dict[str, tuple[Mutate, int]] = {
        "model.json": (_json, 4),
        "users.json": (_json, 4),
        "users.safetensors": (_tensors, 1),
    }
    return _of_folder(folder, names, load_recommender, scratch)


def _autoencoder(scratch: Path) -> list[Target]:
    """Its weights are the smallest; files of many megabytes are slow to mutate."""
    folder = scratch / "autoencoder"
    folder.mkdir()
    save_autoencoder(folder, Autoencoder(SIDE, 2), SIDE, 2)
    names: dict[str, tuple[Mutate, int]] = {
        "model.json": (_json, 4),
        "model.safetensors": (_tensors, 1),
    }
    return _of_folder(folder, names, load_autoencoder, scratch)


def _record(scratch: Path) -> Target:
    folder = scratch / "record"
    folder.mkdir()
    write_record(
        folder,
        ModelRecord(
            model_id="student-1",
            role="student",
            parent="teacher-1",
            settings={"epochs": 3},
            data_fingerprint="f",
            metrics={"validation": {"auc": 0.5}, "epochs": []},
            seed=0,
            code_version="1",
        ),
    )
    file = folder / "training.json"
    seed = file.read_bytes()
    return Target(
        "training.json", (seed,), lambda _: read_record(folder), _json(seed), 8, file=file
    )


def _manifest(scratch: Path) -> list[Target]:
    """A manifest that is not the registered one, and a damaged one that was registered so."""
    targets = []
    for name in ("changed", "registered"):
        folder = ArtifactFolder(scratch / f"artifacts-{name}")
        with folder.write_model("m-1") as model:
            (model / "part").write_bytes(b"part")
        file = folder.root / "models" / "m-1" / "manifest.json"
        seed, sha256 = file.read_bytes(), folder.model_sha256("m-1")

        def use(
            _: bytes,
            folder: ArtifactFolder = folder,
            sha256: str = sha256,
            trusted: bool = name == "registered",
        ) -> None:
            folder.model("m-1", folder.model_sha256("m-1") if trusted else sha256)

        targets.append(Target(f"manifest {name}", (seed,), use, _json(seed), 6, file=file))
    return targets


def _index(scratch: Path) -> list[Target]:
    folder = scratch / "index"
    folder.mkdir()
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    ids = [f"o{number}" for number in range(len(vectors))]
    build_index(folder / "outfits.faiss", vectors, ids, vectors[:5], 3)
    names: dict[str, tuple[Mutate, int]] = {
        "outfits.faiss.ids.json": (_json, 8),
        "outfits.faiss": (lambda seed: mutated_bytes([seed]), 4),
    }
    return _of_folder(folder, names, lambda own: read_index(own / "outfits.faiss"), scratch)


def _lists(scratch: Path) -> Target:
    catalog = random_shop(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    items = rng.integers(0, catalog.n_items, (5, 4, 3)).astype(np.int32)
    users = np.arange(5, dtype=np.int32)
    folder = scratch / "lists"
    folder.mkdir()
    file = folder / "lists.parquet"
    write_lists(file, catalog, EvaluationLists(users, items, 0), 0)
    seed = file.read_bytes()
    return Target(
        "evaluation lists",
        (seed,),
        lambda _: read_lists(file, catalog),
        mutated_bytes([seed]),
        8,
        file=file,
    )


def _checkpoint(scratch: Path) -> Target:
    """A state that cannot be used is removed with a warning in the log; training begins anew."""
    folder = scratch / "checkpoint"
    keeper = Keeper(CheckpointFolder(folder), IDENTITY)
    keeper.save(lambda: ({"weights": torch.arange(6.0)}, {"epoch": 3}))
    file = folder / "state.safetensors"
    seed = file.read_bytes()
    valid = keeper.last()

    def use(data: bytes) -> None:
        folder.mkdir(exist_ok=True)
        file.write_bytes(data)
        found = keeper.last()
        if found is None:
            raise DataError("a state that is not continued")
        assert valid is not None
        assert torch.equal(found[0]["weights"], valid[0]["weights"])
        assert found[1] == valid[1]

    return Target("checkpoint", (seed,), use, _tensors(seed), 8)


def _work(scratch: Path) -> Target:
    """A shard that is damaged counts as not there."""
    root = scratch / "work"
    leftovers = Leftovers(WorkFolder(root, "", "embed"), "student-1", "torch")
    keys = np.arange(64, dtype=np.uint8).reshape(2, 32)
    leftovers.write("items", keys, np.ones((2, 128), np.float32))
    [file] = (path for path in root.rglob("items-*") if path.is_file())
    seed = file.read_bytes()

    def use(data: bytes) -> None:
        file.write_bytes(data)
        found, _ = leftovers.read("items")
        if not np.array_equal(found, keys):
            assert not len(found)
            raise DataError("a shard that is computed again")

    return Target("work shard", (seed,), use, mutated_bytes([seed]), 4)


def _packed_pictures(scratch: Path) -> Target:
    folder = scratch / "packed"
    PackedImages.open(folder, SIDE)
    file = folder / "index.txt"
    names = b"".join(b"%064x\n" % number for number in range(3))
    file.write_bytes(file.read_bytes() + names)
    (folder / "pixels.u8").write_bytes(bytes(3 * SIDE * SIDE * 3))
    seed = file.read_bytes()

    def use(_: bytes) -> None:
        packed = PackedImages.open(folder, SIDE)
        packed.rows([f"{number:064x}" for number in range(3)])
        assert packed.pixels.shape == (len(packed), SIDE, SIDE, 3)

    return Target("packed pictures", (seed,), use, mutated_bytes([seed]), 6, file=file)
