"""Table 5: parameters, time and memory of the sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from recjob.model.backbone import ModelSize
from recjob.model.recommender import OutfitRecommender
from recjob.paper.artifact import Artifact, Cell, Spread, Table
from recjob.paper.run_spec import RunSpec
from recjob.paper.shop import teacher_size
from recjob.paper.study import Study
from recjob.paper.timing import Timing, time_model

NAME: Final = "table5"
TITLE: Final = "Table 5: model size and cost of inference"
PAPER_USERS: Final = 630
"""Of the data whose parameter counts the paper prints."""
MILLION: Final = 1e6
MIB: Final = 2**20
TEACHER: Final[ModelSize] = "large"
PUBLISHED: Final = Table(
    ("Data", "Model", "Seconds", "GPU memory (GB)", "Parameters (M)", "Ratio"),
    (
        ("Polyvore-630", "Teacher", Spread(80.5, 1.7, 10), "2.89", "65.99", None),
        ("Polyvore-630", "XS", Spread(74.1, 1.7, 10), "2.64", "2.85", "4.3%"),
        ("Polyvore-630", "S", Spread(75.2, 2.9, 10), "2.68", "13.88", "21.0%"),
        ("Polyvore-630", "M", Spread(76.3, 3.3, 10), "2.75", "28.10", "42.6%"),
        ("Polyvore-519", "Teacher", Spread(65.4, 2.7, 10), "3.05", "65.97", None),
        ("Polyvore-519", "XS", Spread(58.3, 3.0, 10), "2.80", "2.83", "4.3%"),
        ("Polyvore-519", "S", Spread(61.6, 2.7, 10), "2.84", "13.86", "21.0%"),
        ("Polyvore-519", "M", Spread(64.4, 1.9, 10), "2.91", "28.09", "42.6%"),
    ),
)


def needs(study: Study) -> Sequence[RunSpec]:
    """Nothing: random weights take as long as trained ones."""
    return []


def build(study: Study) -> Artifact:
    """Count and time the teacher of the paper and the sizes of `paper.sizes`."""
    sizes = [size for size in study.settings.paper.sizes if size != TEACHER]
    users = study.data.users.size
    rows: list[tuple[Cell, ...]] = []
    timings: list[Timing] = []
    for size in (TEACHER, *sizes):
        pixels = teacher_size(study.settings) if size == TEACHER else study.settings.images.size
        timing = time_model(study, size, pixels)
        timings.append(timing)
        rows.append(
            (
                "Teacher" if size == TEACHER else size.upper(),
                pixels,
                Spread.of(timing.seconds),
                timing.memory_bytes / MIB,
                told_millions(parameters(size, users)),
                told_millions(parameters(size, PAPER_USERS)),
                None
                if size == TEACHER
                else f"{parameters(size, PAPER_USERS) / parameters(TEACHER, PAPER_USERS):.1%}",
            )
        )
    first = timings[0]
    memory = "GPU memory that torch took" if first.on_gpu else "resident memory of the process"
    catalog = study.data.catalog
    notes = (
        f"Seconds from pictures in memory to the scores of {users:,} users for "
        f"{int(catalog.outfit_usable.sum()):,} outfits of the catalog: every picture is encoded "
        f"once, then every outfit, then scored for every user; mean ± standard deviation of "
        f"{len(first.seconds)} runs after one that is not counted.",
        f"Memory: the peak of {memory}, in a process of its own that also holds the pictures.",
        f"Measured on {first.device}, with random weights, which cost what trained ones do. The "
        "paper's are of a Tesla P100 and include reading the pictures.",
    )
    columns = (
        "Model",
        "Pixels",
        "Seconds",
        "Memory (MiB)",
        f"Parameters ({users:,} users)",
        f"Parameters ({PAPER_USERS} users)",
        "Ratio",
    )
    return Artifact(NAME, TITLE, Table(columns, tuple(rows)), notes, PUBLISHED)


def parameters(size: ModelSize, users: int) -> int:
    """Number of parameters of a model with so many users."""
    with torch.device("meta"):
        model = OutfitRecommender(size, users)
    return sum(parameter.numel() for parameter in model.parameters())


def told_millions(count: int) -> str:
    """As the paper prints it."""
    return f"{count / MILLION:.2f}M"
