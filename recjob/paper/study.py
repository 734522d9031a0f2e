"""A study: data, settings, evaluation lists, and the runs that tables and figures are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.errors import RecjobError, SettingsError
from recjob.paper.run import ListKind, Run, read_run
from recjob.paper.run_spec import RunSpec, uses_replace
from recjob.paper.shop import Newcomers
from recjob.settings import Settings
from recjob.training.data import TrainingData

Method = Literal["bpr", "n-pair", "fnd", "fnd-cl"]
METHOD_NAMES: Final[dict[Method, str]] = {
    "bpr": "BPR",
    "n-pair": "N-pair",
    "fnd": "FND",
    "fnd-cl": "FND-CL",
}
"""Our own methods, from the weakest to the strongest."""
HARD_SHARE: Final = 0.5
"""Of the negatives in training, where hard ones are asked for (Sec. 4.4)."""
RUNS_FOLDER: Final = "runs"


class NotRunError(RecjobError):
    """A run that a table asks for is not there; the message says why."""


@dataclass(frozen=True)
class Study:
    """Everything that a table or figure reads; making one trains nothing."""

    out: Path
    """Where runs, lists, packed pictures and the results lie."""
    settings: Settings
    data: TrainingData
    """Catalog, split and pictures of `images.size`."""
    teacher_data: TrainingData
    """The same with pictures of `teacher.image_size`."""
    newcomers: Newcomers | None
    """Cold starters (Sec. 4.3), where the data have some."""
    lists: dict[ListKind, EvaluationLists]
    """Of the test part: every run ranks the same."""
    validation_lists: EvaluationLists
    """Of the student's validation half, with random negatives: for `Run.validation_auc`."""
    digest: str
    """sha256 (hex) of data, split and lists: a part of every run's key."""
    newcomers_digest: str
    """sha256 (hex) of the newcomers' data; empty without any."""
    folder: Path
    """Where the data come from."""
    users: int | None = None
    """U of Polyvore-U, where the data are in its layout."""

    @property
    def repeats(self) -> range:
        """Repeats of each row of Tables 2 to 4: `paper.repeats`."""
        return range(self.settings.paper.repeats)

    @property
    def figure_repeats(self) -> range:
        """Repeats of each point of Fig. 4 to 7: `paper.figure_repeats`."""
        return range(self.settings.paper.figure_repeats)

    def run_folder(self, spec: RunSpec) -> Path:
        """Where a run is kept."""
        return self.out / RUNS_FOLDER / spec.key

    def run(self, spec: RunSpec) -> Run:
        """A finished run; raises NotRunError with the reason where there is none."""
        run = read_run(self.run_folder(spec))
        if run is None:
            raise NotRunError(self._reason(spec))
        return run

    def autoencoder_spec(self) -> RunSpec:
        """The autoencoder; every repeat uses the same."""
        return RunSpec("autoencoder", "autoencoder", self.settings, self.digest)

    def teacher_spec(self, repeat: int = 0, hard: bool = False) -> RunSpec:
        """The teacher of a repeat; with `hard` it trains with hard negatives too."""
        different = self.settings.paper.teacher_repeats
        if different:
            repeat %= different
        settings = self._settings(repeat, hard)
        if hard:
            options = settings.teacher.model_copy(update={"hard_share": HARD_SHARE})
            settings = settings.model_copy(update={"teacher": options})
        return RunSpec(
            "teacher",
            _label("teacher", hard, repeat),
            settings,
            self.digest,
            hard,
            self.autoencoder_spec() if settings.teacher.weights == "autoencoder" else None,
        )

    def student_spec(
        self, method: Method, repeat: int = 0, hard: bool = False, **overrides: Any
    ) -> RunSpec:
        """A student of a repeat, distilled from the teacher of the same repeat.

        `overrides` are keys of StudentSettings; with another `batch_size` the learning rate is
        scaled along (Sec. 4.8) unless it is given too.

        Raises SettingsError for a value out of range.
        """
        settings = self._settings(repeat, hard)
        base = settings.student
        values = base.model_dump() | _of_method(method, base.contrastive_weight)
        if hard:
            values["hard_share"] = HARD_SHARE
        if "batch_size" in overrides and "learning_rate" not in overrides:
            scale = overrides["batch_size"] / base.batch_size
            overrides = overrides | {"learning_rate": base.learning_rate * scale}
        try:
            options = type(base).model_validate(values | overrides)
        except ValueError as error:
            raise SettingsError(f"student: {error}") from None
        needs_autoencoder = uses_replace(options) or options.weights == "autoencoder"
        changed = ", ".join(f"{name} {value}" for name, value in overrides.items())
        return RunSpec(
            "student",
            _label(METHOD_NAMES[method], hard, repeat) + (f", {changed}" if changed else ""),
            settings.model_copy(update={"student": options}),
            self.digest,
            hard,
            self.autoencoder_spec() if needs_autoencoder else None,
            self.teacher_spec(repeat, hard) if options.loss == "fnd" else None,
        )

    def teacher(self, repeat: int = 0, hard: bool = False) -> Run:
        """The finished run of `teacher_spec`."""
        return self.run(self.teacher_spec(repeat, hard))

    def student(self, method: Method, repeat: int = 0, hard: bool = False, **overrides: Any) -> Run:
        """The finished run of `student_spec`."""
        return self.run(self.student_spec(method, repeat, hard, **overrides))

    def _settings(self, repeat: int, hard: bool) -> Settings:
        """All settings with the seed of a repeat; hard runs also validate on hard lists."""
        settings = self.settings.model_copy(update={"seed": self.settings.seed + repeat})
        if not hard:
            return settings
        evaluation = settings.evaluation.model_copy(update={"negatives": "hard"})
        return settings.model_copy(update={"evaluation": evaluation})

    def _reason(self, spec: RunSpec) -> str:
        for needed in spec.with_ancestors():
            note = failure_file(self.run_folder(needed))
            if note.is_file():
                told = note.read_text(encoding="utf-8").strip()
                return told if needed is spec else f"{needed.label}: {told}"
        return "not computed"


def failure_file(folder: Path) -> Path:
    """Beside a run's folder: why the last attempt failed, in a line."""
    return folder.with_name(f"{folder.name}.failed")


def _of_method(method: Method, contrastive_weight: float) -> dict[str, Any]:
    if method != "fnd-cl":
        loss = "fnd" if method == "fnd" else method
        return {"loss": loss, "contrastive_weight": 0.0}
    if contrastive_weight == 0:
        raise SettingsError("student.contrastive_weight is 0, but FND-CL needs a weight above it")
    return {"loss": "fnd"}


def _label(name: str, hard: bool, repeat: int) -> str:
    return f"{name}{' (hard negatives)' if hard else ''}, repeat {repeat + 1}"
