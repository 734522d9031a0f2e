"""Benchmark of a whole night: import, embed and nightly-recommend on a large drawn shop.

The jobs are the real ones, on a database and a home that are made for it and removed afterwards.
"""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from recjob.bench.machine import Machine, this_machine
from recjob.bench.scratch import scratch_home
from recjob.bench.shop import PICTURE_SIDE, ShopSize, register_student, write_shop
from recjob.jobs.embed import embed
from recjob.jobs.import_tables import import_tables
from recjob.jobs.nightly_recommend import NightlyResult, nightly_recommend
from recjob.jobs.runner import run_job
from recjob.jobs.stages import JobResult, StageRecord
from recjob.report.page import memory
from recjob.settings import ImageSettings, Settings
from recjob.store.database import open_database


class JobTimes(BaseModel):
    """A job of the benchmark."""

    model_config = ConfigDict(frozen=True)

    job: str
    seconds: float
    peak_memory_bytes: int
    """Host memory of the process at its highest while the job ran."""
    stages: tuple[StageRecord, ...]


class NightBenchmark(BaseModel):
    """What a night cost."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    users: int
    outfits: int
    items: int
    k: int
    stored: int
    """Places of a list, the spare ones included."""
    shortest_list: int
    pairs_per_second: float
    """Users with a vector, times candidates, by the seconds of the stage "score"."""
    users_per_second: float
    """By the seconds of the job nightly-recommend."""
    jobs: tuple[JobTimes, ...]


def bench_night(settings: Settings, size: ShopSize) -> NightBenchmark:
    """Run a first night on a drawn shop, with the settings' rules, and measure each stage."""
    small = settings.model_copy(update={"images": ImageSettings(size=PICTURE_SIDE)})
    with scratch_home(small) as (folder, settings):
        write_shop(folder / "shop", size, settings.seed)
        with open_database(settings) as database:
            steps = (
                ("import", partial(import_tables, folder=folder / "shop")),
                ("models-import", partial(register_student, size=size, seed=settings.seed)),
                ("embed", embed),
                ("nightly-recommend", nightly_recommend),
            )
            results = [(job, run_job(job, database, settings, body)) for job, body in steps]
    night = results[-1][1]
    assert isinstance(night, NightlyResult)
    [score] = [stage for stage in night.stages if stage.name == "score"]
    return NightBenchmark(
        machine=this_machine(),
        users=size.users,
        outfits=size.outfits,
        items=size.items,
        k=night.k,
        stored=night.k + settings.nightly.spare,
        shortest_list=night.shortest_list,
        pairs_per_second=(night.users.warm + night.users.cold) * night.candidates / score.seconds,
        users_per_second=night.lists / night.seconds,
        jobs=tuple(_times(job, result) for job, result in results),
    )


def print_night(result: NightBenchmark) -> None:
    """A table for people."""
    table = Table(title=f"{result.users:,} users x {result.outfits:,} outfits")
    for heading in ("job", "stage", "seconds", "things", "peak memory"):
        table.add_column(heading, justify="left" if heading in ("job", "stage") else "right")
    for job in result.jobs:
        for stage in job.stages:
            things = f"{stage.items:,}" if stage.items else ""
            table.add_row(
                job.job, stage.name, f"{stage.seconds:.2f}", things, memory(stage.peak_memory_bytes)
            )
        table.add_row(
            job.job, "all", f"{job.seconds:.2f}", "", memory(job.peak_memory_bytes), style="bold"
        )
    console = Console()
    console.print(table)
    machine = result.machine
    console.print(
        f"{result.pairs_per_second / 1e9:.2f} G pairs/s in the stage score, "
        f"{result.users_per_second:,.0f} users/s in nightly-recommend; lists of {result.k} "
        f"({result.stored} stored), the shortest {result.shortest_list}\n"
        f"{machine.processor}, {machine.cores} cores, {' '.join(machine.instructions)}, "
        f"torch {machine.torch}"
    )


def _times(job: str, result: JobResult) -> JobTimes:
    peak = max((stage.peak_memory_bytes for stage in result.stages), default=0)
    return JobTimes(job=job, seconds=result.seconds, peak_memory_bytes=peak, stages=result.stages)
