"""What `doctor` finds: checks, each with what was found and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from recjob.errors import RecjobError
from recjob.jobs.queries import Answer
from recjob.logs import masked

Verdict = Literal["ok", "warning", "failed"]

FAULTS: Final = (
    RecjobError,
    OSError,
    ImportError,
    RuntimeError,  # torch, FAISS, ONNX Runtime
    ValueError,  # a file that holds something else
    psycopg.Error,
    SQLAlchemyError,
)
"""What a check may raise: then it has failed, and the others go on."""


class Finding(Answer):
    """What a check found."""

    outcome: Verdict
    found: str
    fix: str | None = None
    """What to do; None where it is well."""


class Check(Finding):
    """A check and what it found."""

    name: str


class Diagnosis(Answer):
    """All checks, in their order."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.outcome == "failed")


def well(found: str) -> Finding:
    """All is as it should be."""
    return Finding(outcome="ok", found=found)


def warning(found: str, fix: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(outcome="warning", found=found, fix=fix)


def failure(found: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(outcome="failed", found=found, fix=fix)


def examined(checks: Iterable[tuple[str, Callable[[], Finding | None]]]) -> list[Check]:
    """Run checks one after the other; one that finds nothing to look at (None) is left out."""
    done = []
    for name, check in checks:
        try:
            finding = check()
        except FAULTS as error:
            finding = failure(*_told(error))
        if finding is not None:
            done.append(Check(name=name, **finding.model_dump()))
    return done


def _told(error: BaseException) -> tuple[str, str]:
    """What is wrong and what to do: messages of ours end with it, after a semicolon."""
    line = first_line(error)
    what, _, mend = line.rpartition("; ") if isinstance(error, RecjobError) else (line, "", "")
    return (what, mend) if what and mend else (line, "mend what it names, and run doctor again")


def first_line(error: BaseException) -> str:
    """What an exception says, in a line; those that are not ours with their kind."""
    told = error.orig if isinstance(error, DBAPIError) and error.orig else error
    line = next(
        (line.strip() for line in str(told).splitlines() if line.strip()), "no reason given"
    )
    return masked(line if isinstance(error, RecjobError) else f"{type(told).__name__}: {line}")
