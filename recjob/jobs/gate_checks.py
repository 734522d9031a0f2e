"""What the gate asks of a new student, and whether the answers are good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, gt
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from recjob.errors import NotFiniteError
from recjob.settings import GateSettings

CheckName = Literal[
    "auc", "popularity", "cold-start", "coverage", "agreement", "engines", "latency", "vectors"
]


@dataclass(frozen=True)
class Beside:
    """A figure of the candidate beside that of the active student."""

    value: float
    reference: float


@dataclass(frozen=True)
class Lead:
    """An AUC beside another of the same users, and how sure the difference is."""

    value: float
    reference: float
    low: float
    """Lower end of the interval of the mean difference, `value` less `reference`."""


@dataclass(frozen=True)
class Measurements:
    """What was measured; a text says why something was not."""

    auc: Lead | str
    """Beside the active student, on the lists of the users whom both know."""
    popularity: Lead | str
    """Beside popularity, on the lists of the users whom the candidate knows."""
    cold_start: Beside | str
    """AUC of newcomers to both."""
    coverage: Beside | str
    """Share of the outfits that are in somebody's list."""
    agreement: Beside | str
    """Rank correlation of each student with its own teacher."""
    engine_difference: float | str
    """Largest distance of a unit vector of the compiled forms from torch's in float32."""
    latency_seconds: Beside | str
    """A batch of pictures through the engine that embeds here."""


class Check(BaseModel):
    """One question to the candidate."""

    model_config = ConfigDict(frozen=True)

    name: CheckName
    passed: bool | None
    """None: it was not measured."""
    value: float | None
    """The candidate's figure."""
    reference: float | None
    """What it stands beside: the active student's, or popularity's."""
    decisive: float | None
    """What is held against the limit; see `meaning`."""
    limit: float | None
    meaning: str
    """What `decisive` is and must be, or why it was not measured."""

    @property
    def sentence(self) -> str:
        """The check in words, with its numbers."""
        if self.decisive is None or self.limit is None:
            return f"{self.name}: {self.meaning}"
        found = f"{self.name}: {self.meaning} {self.limit:.4g}, and is {self.decisive:.4g}"
        if self.value is None or self.reference is None:
            return found
        return f"{found} ({self.value:.4g} beside {self.reference:.4g})"


def decide(measured: Measurements, settings: GateSettings, tolerance: float) -> tuple[Check, ...]:
    """All checks in their order; `tolerance` is `compile.tolerance`.

    A figure that is not a number fails its check.
    """
    return (
        _auc(measured.auc, settings),
        _popularity(measured.popularity, settings),
        _loss("cold-start", measured.cold_start, settings.max_cold_start_loss),
        _coverage(measured.coverage, settings),
        _loss("agreement", measured.agreement, settings.max_agreement_loss),
        _engines(measured.engine_difference, tolerance),
        _latency(measured.latency_seconds, settings),
    )


def no_numbers(error: NotFiniteError) -> tuple[Check, ...]:
    """What is said of a candidate of which nothing can be measured: its vectors are no numbers."""
    return (_without_figures("vectors", passed=False, meaning=str(error)),)


def failed(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Those that a candidate must not fail and did."""
    return tuple(check for check in checks if check.passed is False)


def reason_of(checks: Sequence[Check]) -> str:
    """One line that names the checks that failed, with their numbers."""
    return "; ".join(check.sentence for check in failed(checks))


def _auc(found: Lead | str, settings: GateSettings) -> Check:
    return _lead(
        "auc",
        found,
        ge,
        -settings.max_auc_loss,
        "the lower end of the difference to the active student must not be below",
    )


def _popularity(found: Lead | str, settings: GateSettings) -> Check:
    return _lead(
        "popularity",
        found,
        gt,
        settings.min_popularity_lead,
        "the lower end of the lead over popularity must be above",
    )


def _lead(
    name: CheckName,
    found: Lead | str,
    reaches: Callable[[float, float], bool],
    limit: float,
    meaning: str,
) -> Check:
    """The lower end of a lead must reach the limit."""
    if isinstance(found, str):
        return _not_measured(name, found)
    return Check(
        name=name,
        passed=reaches(found.low, limit),
        value=found.value,
        reference=found.reference,
        decisive=found.low,
        limit=limit,
        meaning=meaning,
    )


def _loss(name: CheckName, found: Beside | str, limit: float) -> Check:
    return _at_most(
        name, found, lambda it: it.reference - it.value, limit, "the loss must not be above"
    )


def _coverage(found: Beside | str, settings: GateSettings) -> Check:
    return _at_most(
        "coverage",
        found,
        # An active student that recommends nothing leaves nothing to lose.
        lambda it: 1 - it.value / it.reference if it.reference > 0 else 0.0,
        settings.max_coverage_loss,
        "the relative loss must not be above",
    )


def _engines(found: float | str, tolerance: float) -> Check:
    return _at_most(
        "engines",
        found,
        lambda it: it,
        tolerance,
        "the distance of a compiled vector from torch's must not be above",
    )


def _latency(found: Beside | str, settings: GateSettings) -> Check:
    return _at_most(
        "latency",
        found,
        lambda it: it.value / it.reference,
        settings.max_latency_factor,
        "a batch of pictures must not take more times as long as the active student's than",
    )


F = TypeVar("F", float, Beside)


def _at_most(
    name: CheckName, found: F | str, decisive: Callable[[F], float], limit: float, meaning: str
) -> Check:
    """What follows from a figure must not be above the limit."""
    if isinstance(found, str):
        return _not_measured(name, found)
    held_against = decisive(found)
    return Check(
        name=name,
        passed=held_against <= limit,
        value=found.value if isinstance(found, Beside) else found,
        reference=found.reference if isinstance(found, Beside) else None,
        decisive=held_against,
        limit=limit,
        meaning=meaning,
    )


def _not_measured(name: CheckName, why: str) -> Check:
    return _without_figures(name, passed=None, meaning=f"not measured: {why}")


def _without_figures(name: CheckName, passed: bool | None, meaning: str) -> Check:
    return Check(
        name=name,
        passed=passed,
        value=None,
        reference=None,
        decisive=None,
        limit=None,
        meaning=meaning,
    )
