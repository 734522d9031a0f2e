"""What a training of a study is, and the key that its result is kept under.

The key is a digest of everything that the result depends on and of nothing else: another alpha
trains FND anew and leaves the N-pair runs alone, and where a run is computed does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from recjob.catalog.hashing import file_sha256
from recjob.settings import AutoencoderSettings, Settings, StudentSettings, TrainingSettings
from recjob.training.checkpoint import RECIPE_VERSION

FORMAT: Final = 1
"""Counted up when runs of before must not be reused."""
NAMED_WEIGHTS: Final = ("imagenet", "autoencoder", "none")
"""Other values of `weights` are files, which count by their content."""
WITHOUT_EFFECT: Final = ("compile", "prefetch", "checkpoint_minutes")
"""Settings of a training that change its speed and not its result."""

RunRole = Literal["autoencoder", "teacher", "student"]


@dataclass(frozen=True)
class RunSpec:
    """One training of a study and what it starts from."""

    role: RunRole
    label: str
    """For people: "FND-CL (hard negatives)"."""
    settings: Settings
    """Complete, with the seed of this run."""
    data: str
    """Digest of the data, their split and the evaluation lists."""
    hard: bool = False
    """Trained with hard negatives among the random ones, and judged by hard ones (Sec. 4.4)."""
    autoencoder: RunSpec | None = None
    """Behind *replace*, or where the trunk starts."""
    teacher: RunSpec | None = None
    """What is distilled from; only FND needs one."""

    @property
    def parents(self) -> tuple[RunSpec, ...]:
        """The runs that must be there first."""
        return tuple(spec for spec in (self.autoencoder, self.teacher) if spec is not None)

    @property
    def section(self) -> TrainingSettings | AutoencoderSettings:
        """The settings of its training."""
        section: TrainingSettings | AutoencoderSettings = getattr(self.settings, self.role)
        return section

    @property
    def frozen(self) -> bool:
        """True where it trains on the cached features of a frozen trunk."""
        return isinstance(self.section, TrainingSettings) and self.section.freeze_backbone

    @cached_property
    def key(self) -> str:
        """sha256 (hex) of everything that the result depends on."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def with_ancestors(self) -> Iterator[RunSpec]:
        """The runs that it needs, itself last; one may come twice."""
        for parent in self.parents:
            yield from parent.with_ancestors()
        yield self

    def _content(self) -> dict[str, Any]:
        settings = self.settings
        content: dict[str, Any] = {
            "format": [FORMAT, RECIPE_VERSION],
            "data": self.data,
            "role": self.role,
            "seed": settings.seed,
            "precision": settings.compute.precision,
            "image_size": settings.images.size,
            "parents": [parent.key for parent in self.parents],
        }
        if not isinstance(self.section, TrainingSettings):
            section = self.section.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
            return content | {"section": section}
        evaluation = settings.evaluation
        return content | {
            "hard": self.hard,
            "section": effective(self.section),
            "validation": [
                evaluation.negatives,
                evaluation.negatives_per_positive,
                evaluation.max_validation_positives,
            ],
        }


def effective(section: TrainingSettings) -> dict[str, Any]:
    """The values of a training's settings that have an effect, beside the others'."""
    values = section.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    idle = {"momentum", "plateau_factor", "plateau_patience"}
    if section.optimizer == "sgd":
        idle = {"warmup"}
    if isinstance(section, StudentSettings):
        idle |= _idle_of_student(section)
    if section.weights not in NAMED_WEIGHTS and Path(section.weights).is_file():
        values["weights"] = file_sha256(Path(section.weights))
    return {name: value for name, value in values.items() if name not in idle}


def uses_replace(options: StudentSettings) -> bool:
    """True where visual neighbours are asked for."""
    return options.contrastive_weight > 0 and "replace" in options.augmentations


def _idle_of_student(options: StudentSettings) -> set[str]:
    idle: set[str] = set()
    if options.loss != "fnd":
        idle |= {"alpha", "alpha_relative", "alpha_schedule", "alpha_start"}
    elif options.alpha_relative > 0:
        idle.add("alpha")
    if options.alpha_schedule == "constant":
        idle.add("alpha_start")
    if options.contrastive_weight == 0:
        idle |= {"contrastive", "contrastive_temperature", "augmentations"}
    if not uses_replace(options):
        idle.add("replace_neighbours")
    return idle
