"""Command `pipeline`: from the imported catalog to a published run, job after job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from recjob.jobs.compile import compile_student
from recjob.jobs.distill import distill
from recjob.jobs.embed import embed
from recjob.jobs.evaluate import EvaluateResult, evaluate
from recjob.jobs.gate import gate
from recjob.jobs.make_report import ReportResult, make_report
from recjob.jobs.nightly_recommend import NightlyResult, nightly_recommend
from recjob.jobs.runner import JobContext, run_job
from recjob.jobs.stages import JobResult
from recjob.jobs.start import prepare_home
from recjob.jobs.train_autoencoder import train_autoencoder
from recjob.jobs.train_teacher import train_teacher
from recjob.jobs.workspace import on_database
from recjob.report.page import duration, memory
from recjob.settings import Settings
from recjob.store.database import Database, open_database


class StageCost(BaseModel):
    """What a job took."""

    model_config = ConfigDict(frozen=True)

    job: str
    seconds: float
    peak_memory_bytes: int
    """Host memory of the process at its highest while the job ran; 0 where nobody measured."""

    @property
    def for_people(self) -> tuple[str, str, str]:
        """Job, time and memory as texts."""
        peak = memory(self.peak_memory_bytes) if self.peak_memory_bytes else ""
        return self.job, duration(self.seconds), peak


class PipelineResult(BaseModel):
    """The whole way."""

    model_config = ConfigDict(frozen=True)

    auc_student: float
    auc_teacher: float
    auc_popularity: float
    auc_random: float
    users: int
    """Warm users."""
    cold_starters: int
    strangers: int
    recommended_users: int
    """Users with a list in the published run."""
    seconds: float
    stages: tuple[StageCost, ...]
    report: str
    """Path of the page to open."""

    @property
    def total(self) -> StageCost:
        """All stages together."""
        return StageCost(job="all", seconds=self.seconds, peak_memory_bytes=0)


@dataclass(frozen=True)
class Finished:
    """A job of the pipeline that is done."""

    job: str
    result: JobResult

    @property
    def cost(self) -> StageCost:
        """Its time and memory."""
        peak = max((stage.peak_memory_bytes for stage in self.result.stages), default=0)
        return StageCost(job=self.job, seconds=self.result.seconds, peak_memory_bytes=peak)


STEPS: tuple[tuple[str, Callable[[JobContext], JobResult]], ...] = (
    ("train-autoencoder", on_database(train_autoencoder)),
    ("train-teacher", on_database(train_teacher)),
    ("distill", on_database(distill)),
    ("compile", compile_student),
    ("gate", gate),
    ("embed", embed),
    ("nightly-recommend", nightly_recommend),
    ("evaluate", evaluate),
    ("report", make_report),
)
"""The jobs in their order; each reads what the ones before it made. A student that the gate refuses
ends it."""


def run_pipeline(database: Database, settings: Settings) -> Iterator[Finished]:
    """Run every step; yields after each one."""
    for job, body in STEPS:
        yield Finished(job, run_job(job, database, settings, body))


def start_pipeline(settings: Settings) -> Iterator[Finished]:
    """Open the database of the settings and run every step on it; yields after each one."""
    prepare_home(settings.home)
    with open_database(settings) as database:
        yield from run_pipeline(database, settings)


def pipeline_result(finished: list[Finished]) -> PipelineResult:
    """The figures of a pipeline that ran to its end."""
    by_job = {step.job: step.result for step in finished}
    evaluated, night, report = (
        by_job["evaluate"],
        by_job["nightly-recommend"],
        by_job["report"],
    )
    assert isinstance(evaluated, EvaluateResult)
    assert isinstance(night, NightlyResult)
    assert isinstance(report, ReportResult)
    auc = {row.method: row.auc for row in evaluated.quality}
    return PipelineResult(
        auc_student=auc["student"],
        auc_teacher=auc["teacher"],
        auc_popularity=auc["popularity"],
        auc_random=auc["random"],
        users=night.users.warm,
        cold_starters=night.users.cold,
        strangers=night.users.stranger,
        recommended_users=night.lists,
        seconds=sum(step.result.seconds for step in finished),
        stages=tuple(step.cost for step in finished),
        report=report.report,
    )
