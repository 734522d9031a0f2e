"""A tiny drawn shop with newcomers, and a study of it with a few finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.paper.opening import open_study
from recjob.paper.shop import Progress, Source
from recjob.paper.study import Study
from recjob.paper.work import compute_missing, unique_runs
from recjob.settings import Settings


@contextmanager
def silent(label: str) -> Iterator[Progress]:
    yield lambda done, total, note: None


def tiny_settings() -> Settings:
    """One epoch of the smallest models; seconds for a run."""
    training = {"size": "xs", "epochs": 1, "batch_size": 16, "weights": "none", "dropout": 0.0}
    return Settings.model_validate(
        {
            "seed": 1,
            "compute": {"device": "cpu", "precision": "fp32", "threads": 1},
            "images": {"size": 64},
            "demo": {
                "items": 80,
                "users": 8,
                "cold_starters": 3,
                "strangers": 1,
                "outfits_per_user": 16,
                "image_size": 64,
            },
            "autoencoder": {"epochs": 1},
            "teacher": training,
            "student": training,
            "evaluation": {"bootstrap_draws": 50},
            "paper": {"repeats": 1, "sizes": ["xs"], "timing_repeats": 2},
        }
    )


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn shop; its newcomers lie beside it in `shop-cold`."""
    folder = tmp_path_factory.mktemp("drawn") / "shop"
    settings = tiny_settings()
    write_demo(folder, folder.with_name("shop-cold"), settings.demo, settings.seed)
    return folder


@pytest.fixture(scope="session")
def study(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study in which teacher, N-pair and FND-CL are finished, and nothing else."""
    study = open_study(Source(drawn), tmp_path_factory.mktemp("results"), tiny_settings(), silent)
    specs = [study.student_spec("n-pair"), study.student_spec("fnd-cl")]
    compute_missing(study, unique_runs(specs), silent, lambda text: None)
    return study
