"""What `status` tells, as one JSON object has it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from recjob.jobs.queries import Answer
from recjob.store.artifacts import Role
from recjob.store.ledger import Outcome
from recjob.store.models import Status


class PublishedRun(Answer):
    """The run that readers see."""

    run: int
    written: datetime
    """When its lists were there."""
    age_hours: float
    model: str | None
    lists: int | None
    """None for a run of an early version, which did not count."""
    users: dict[str, int]
    """Lists by kind of user: warm, cold, stranger."""


class HeldRun(Answer):
    """The newest kept run, where a limit holds it back."""

    run: int
    reason: str


class RunningJob(Answer):
    """A run that has not ended."""

    job: str
    run: int
    stage: str | None
    """At its last heartbeat; None between stages."""
    started: datetime
    seconds: float
    heartbeat_seconds: float
    """Age of its last heartbeat."""
    host: str
    pid: int
    alive: bool
    """False: it was killed, and the next job of any kind marks it so."""


class EndedJob(Answer):
    """The last run of a job that has ended."""

    job: str
    run: int
    outcome: Outcome
    ended: datetime
    age_hours: float
    seconds: float
    error: str | None
    """Why it failed, was refused or skipped."""


class NextRun(Answer):
    """An entry of the schedule."""

    entry: str
    next: datetime | None
    """None: never."""
    last: datetime | None
    """The last time that was dealt with."""
    outcome: str | None
    reason: str | None


class Schedule(Answer):
    """The schedule of the settings, and whether a scheduler is at work."""

    leader: str | None
    """Who leads; None: no scheduler is alive."""
    entries: tuple[NextRun, ...]
    error: str | None
    """What is wrong with the settings; None: nothing."""


class ModelLine(Answer):
    """A model in use, or a candidate that is newer."""

    role: Role
    model: str
    status: Status
    created: datetime
    age_hours: float
    parent: str | None
    validation: dict[str, float]
    """Metrics on the validation part."""


class GateDecision(Answer):
    """What the gate decided last."""

    model: str
    decision: Literal["passed", "refused", "forced"]
    decided: datetime
    against: str | None
    reason: str | None


class CatalogLine(Answer):
    """Rows of the catalog."""

    items_available: int
    items_unavailable: int
    items_quarantined: int
    outfits: int
    users: int
    interactions: int
    estimated: bool
    """Whether the large tables were estimated and not counted."""


class Disk(Answer):
    """Bytes; None: not known."""

    home: str
    database: int | None
    artifacts: int | None
    pictures: int | None
    free: int | None
    """On the disk of the home folder."""


class Report(Answer):
    """Everything that `status` tells."""

    at: datetime
    """The database's clock; this machine's, where there is no database yet."""
    stale: str | None
    """Why the command ends with exit code 6; None: the published run is fresh."""
    note: str | None
    """Why there is nothing to tell, where there is no database yet."""
    database: str | None
    """Host, port and name."""
    embedded: bool
    schema_version: str | None
    published: PublishedRun | None
    held: HeldRun | None
    running: tuple[RunningJob, ...]
    jobs: tuple[EndedJob, ...]
    schedule: Schedule
    models: tuple[ModelLine, ...]
    gate: GateDecision | None
    catalog: CatalogLine | None
    """None: the user of the database may not read it."""
    disk: Disk
