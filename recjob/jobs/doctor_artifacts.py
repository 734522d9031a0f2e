"""`doctor` on the files: models and what was made of them, the index, packed pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recjob.catalog.hashing import file_sha256
from recjob.catalog.images import PackedImages
from recjob.inference.tensorrt_build import (
    TENSORRT,
    TENSORRT_RTX,
    engine_specs,
    gpu_target,
    load_package,
)
from recjob.jobs.compile import ITEM_ENCODER, ONNX_KIND, SET_ENCODER, SETTINGS_KIND
from recjob.jobs.diagnosis import Finding, failure, warning, well
from recjob.jobs.doctor_database import Session
from recjob.jobs.embed import INDEX_FILE
from recjob.jobs.home import ARTIFACTS_FOLDER, INDEXES_FOLDER
from recjob.jobs.pictures import picture_sizes, pictures_folder
from recjob.jobs.progress import progress_bar
from recjob.model.recommender import FEATURE_DIM
from recjob.ranking.index import read_index
from recjob.settings import CompileSettings
from recjob.store.artifacts import MANIFEST, MODELS
from recjob.store.embeddings import embedding_set
from recjob.store.health import embedded_outfits, picture_hashes
from recjob.store.models import EngineRow, ModelRow, list_engines, list_models

MEGABYTE: Final = 10**6
MOST_NAMED: Final = 3
"""Damaged files that are named; the others are counted."""

MAKE_AGAIN: Final = (
    "restore them from a backup; or train again for a model, run `compile --model` for ONNX files "
    "and engines, and for vectors (embeddings-…) remove the file and run `embed`"
)


@dataclass(frozen=True)
class Registered:
    """A file and the sha256 that it was registered with."""

    path: Path
    sha256: str


def artifacts(session: Session) -> Finding:
    """sha256 of every file of the active models, their engines and vectors."""
    models = _active(session)
    if not models:
        return well("no model is active yet")
    missing: list[str] = []
    damaged: list[str] = []
    files: list[Registered] = []
    for row in models:
        files += _registered(session, row, missing, damaged)
    there = [file for file in files if file.path.is_file()]
    missing += [str(file.path) for file in files if not file.path.is_file()]
    sizes = [file.path.stat().st_size for file in there]
    with progress_bar("MB of artifacts", sum(sizes) // MEGABYTE) as bar:
        done = 0
        for file, size in zip(there, sizes, strict=True):
            if file_sha256(file.path) != file.sha256:
                damaged.append(str(file.path))
            done += size
            bar.to(done // MEGABYTE, sum(sizes) // MEGABYTE)
    if damaged:
        return failure(
            f"not what was registered (sha256 differs): {_named(damaged)}",
            MAKE_AGAIN,
        )
    if missing and session.settings.artifacts_url:
        return well(
            f"{len(there)} files as registered; {len(missing)} lie in artifacts_url alone, and are "
            "checked when they are fetched"
        )
    if missing:
        return failure(
            f"missing: {_named(missing)}",
            MAKE_AGAIN,
        )
    return well(
        f"{len(there)} files of {len(models)} active models as registered "
        f"({sum(sizes) / MEGABYTE:.0f} MB hashed)"
    )


def _active(session: Session) -> list[ModelRow]:
    return [row for row in list_models(session.connection) if row.status == "active"]


def _student(session: Session) -> ModelRow | None:
    return next((row for row in _active(session) if row.role == "student"), None)


def _registered(
    session: Session, row: ModelRow, missing: list[str], damaged: list[str]
) -> Iterator[Registered]:
    """The files of a model; a manifest that is missing or damaged is added to the lists."""
    folder = _folder(session, row)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        missing.append(str(manifest))
    elif file_sha256(manifest) != row.sha256:
        damaged.append(str(manifest))
    else:
        listed: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))
        for name, sha256 in listed.items():
            yield Registered(folder / name, sha256)
    for engine in list_engines(session.connection, row.model_id):
        yield Registered(folder / engine.file, engine.sha256)
    vectors = embedding_set(session.connection, row.model_id)
    if vectors is not None:
        yield Registered(folder / vectors.file, vectors.sha256)


def _folder(session: Session, row: ModelRow) -> Path:
    return session.settings.home / ARTIFACTS_FOLDER / MODELS / row.model_id


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def engine(session: Session) -> Finding | None:
    """Whether the active student has a TensorRT engine for this machine's GPU."""
    row, target = _student(session), gpu_target()
    if row is None or target is None:
        return None
    rows = list_engines(session.connection, row.model_id)
    fitting = [kind for kind in (TENSORRT, TENSORRT_RTX) if _fits(session, row, rows, kind, target)]
    if fitting:
        return well(f"student {row.model_id} has one for {fitting[0]} on {target}")
    return warning(
        f"student {row.model_id} has none for {target}: it runs in torch",
        "install TensorRT and run `python cli.py compile` on this machine",
    )


def _fits(session: Session, row: ModelRow, rows: list[EngineRow], kind: str, target: str) -> bool:
    package = load_package(kind)
    onnx = {engine.target: engine.sha256 for engine in rows if engine.kind == ONNX_KIND}
    options = [engine for engine in rows if engine.kind == SETTINGS_KIND]
    if package is None or not options or not {ITEM_ENCODER, SET_ENCODER} <= onnx.keys():
        return False
    text = (_folder(session, row) / options[0].file).read_bytes()
    specs = engine_specs(
        onnx[ITEM_ENCODER],
        onnx[SET_ENCODER],
        CompileSettings.model_validate_json(text),
        int(options[0].target),
        kind,
        package.__version__,
        target,
    )
    return {spec.key for spec in specs} <= {engine.key for engine in rows}


def index(session: Session) -> Finding | None:
    """Whether the index of outfits can be loaded and holds the active student's vectors."""
    row = _student(session)
    if row is None:
        return None
    path = session.settings.home / ARTIFACTS_FOLDER / INDEXES_FOLDER / row.model_id / INDEX_FILE
    if not path.is_file():
        needed = session.settings.nightly.search == "index"
        found = f"there is none of student {row.model_id}"
        if needed:
            return failure(found, "run `python cli.py embed`")
        return warning(found, "run `python cli.py embed` where anybody uses it")
    loaded = read_index(path)
    if loaded.index.d != FEATURE_DIM:
        return failure(
            f"{path} holds vectors of {loaded.index.d} numbers", "run `python cli.py embed`"
        )
    rows, embedded = len(loaded.outfit_ids), embedded_outfits(session.connection, row.model_id)
    if rows != embedded:
        return warning(
            f"{rows:,} outfits, and Postgres has {embedded:,} vectors", "run `python cli.py embed`"
        )
    return well(f"{loaded.kind}, {rows:,} outfits of student {row.model_id}")


def pictures(session: Session) -> Finding:
    """Whether every usable item has its packed picture, in each size that is asked for."""
    hashes = picture_hashes(session.connection)
    if not hashes:
        return well("no item has a picture yet")
    found = []
    for size in picture_sizes(session.settings):
        folder = pictures_folder(session.settings, size)
        if not (folder / "index.txt").is_file():  # opening it would make it
            return failure(
                f"{folder}: there are none of {size} pixels",
                "import again, or set images.size to what was imported",
            )
        PackedImages(folder, size).rows(hashes)
        found.append(f"{size} pixels")
    return well(f"{len(hashes):,} pictures in {' and '.join(found)}")
