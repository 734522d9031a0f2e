"""The command line: reads options, loads settings, calls one job, prints its result."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from recjob import logs
from recjob.cli.bench import bench_app
from recjob.cli.bench_rates import bench_rates_command
from recjob.cli.data import convert_command, import_polyvore_command
from recjob.cli.evaluation import compare, evaluate
from recjob.cli.models import gate, models_app
from recjob.cli.output import (
    JsonOption,
    SettingsOption,
    log_as_settings_say,
    print_json,
    print_values,
)
from recjob.cli.paper import paper
from recjob.cli.plan import plan
from recjob.cli.runs import runs_app
from recjob.cli.schedule import schedule
from recjob.cli.status import doctor, status
from recjob.cli.upkeep import forget_command, retention_command
from recjob.errors import RecjobError, UserError
from recjob.logs import say
from recjob.settings import load_settings
from recjob.version import source_version

if TYPE_CHECKING:
    from recjob.jobs.pipeline import PipelineResult
    from recjob.jobs.runner import JobContext
    from recjob.jobs.stages import JobResult
    from recjob.jobs.training_site import TrainingSite

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells and Typer have it."""


class _Commands(TyperGroup):
    """All commands; where logs are JSON a wrong command line is told as one line of them."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the command line names."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            if not logs.is_json():
                raise
            raise UserError(error.format_message()) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Nightly outfit recommendations: train, distil, compile, embed, score, publish.",
)
import_app = typer.Typer(no_args_is_help=True, help="Bring data into the catalog.")
db_app = typer.Typer(no_args_is_help=True, help="The database's schema.")
app.add_typer(import_app, name="import")
app.add_typer(models_app, name="models")
app.add_typer(runs_app, name="runs")
app.add_typer(bench_app, name="bench")
app.add_typer(db_app, name="db")
app.command()(plan)
app.command("convert")(convert_command)
import_app.command("polyvore")(import_polyvore_command)
app.command()(paper)
app.command()(schedule)
app.command()(status)
app.command()(doctor)
app.command("forget")(forget_command)
app.command("retention")(retention_command)
bench_app.command("rates")(bench_rates_command)

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="With --out: train without a database, from a folder in the import format."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="With --data: the folder for models and packed pictures."),
]
IfChangedOption = Annotated[
    bool,
    typer.Option(
        "--if-changed",
        help="Skip the training where too little is new since the last one "
        "(retraining.min_change), and neither its settings nor its parent changed.",
    ),
]


def main() -> None:
    """Run the command line and exit with the code of the error tree."""
    # Before torch is loaded: threads that wait shall not spin on cores that Postgres and other
    # jobs could use.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with logs.standard_error_logs():
        log_as_settings_say(None)
        try:
            app()
        except RecjobError as error:
            logs.tell_error(error)
            sys.exit(error.exit_code)
        except SystemExit as end:
            if end.code == INTERRUPTED:
                say("interrupted", logs.ERROR)
            raise


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(source_version())
        raise typer.Exit


@app.callback()
def _options_of_all(
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(
            help="Of the lines on standard error; default: `logging.format`.",
            callback=lambda value: logs.choose(format=value),
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(
            help="Log this and all that is graver; default: `logging.level`.",
            callback=lambda value: logs.choose(level=value),
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            help="Print the release and a digest of its sources, and end.",
        ),
    ] = False,
) -> None:
    # The options take effect while the command line is read, for what is wrong with the rest.
    del log_format, log_level, version


@app.command()
def demo(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Run the whole way on a catalog that the program draws itself.

    python cli.py demo

    Draws garments and simulates users, then import, train-autoencoder, train-teacher, distill,
    compile, gate, embed, nightly-recommend, evaluate and report. It has its own home (var/demo) and
    begins anew each time. Without --settings it uses examples/demo.toml.
    """
    from recjob.jobs.demo import run_demo
    from recjob.jobs.pipeline import Finished, StageCost, pipeline_result

    file = settings or Path(__file__).resolve().parents[2] / "examples" / "demo.toml"
    start = time.monotonic()
    finished: list[Finished] = []
    drawing = 0.0
    for step in run_demo(load_settings(file)):
        if isinstance(step, Finished):
            finished.append(step)
            say(f"{step.job}: {step.result.seconds:.1f} s")
        else:
            drawing = step
            say(f"draw: {step:.1f} s")
    result = pipeline_result(finished)
    drawn = StageCost(job="draw", seconds=drawing, peak_memory_bytes=0)
    result = result.model_copy(
        update={"seconds": time.monotonic() - start, "stages": (drawn, *result.stages)}
    )
    _print_pipeline(result, as_json)


@app.command()
def pipeline(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Run every job from train-autoencoder to report on the imported catalog.

    python cli.py pipeline --settings examples/wardrobe-cpu.toml
    """
    from recjob.jobs.pipeline import pipeline_result, start_pipeline

    finished = []
    for step in start_pipeline(load_settings(settings)):
        finished.append(step)
        say(f"{step.job}: {step.result.seconds:.1f} s")
    _print_pipeline(pipeline_result(finished), as_json)


@import_app.command("tables")
def import_tables(
    folder: Annotated[Path, typer.Argument(help="Folder in the import format (docs/data.md).")],
    snapshot: Annotated[
        bool,
        typer.Option(
            "--snapshot",
            help="The folder is all that the shop has: what it lacks becomes unavailable.",
        ),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import items, outfits, interactions and users from CSV or Parquet.

    python cli.py import tables ../shop-export --snapshot

    Checks everything before it writes; imports are upserts, so the same folder twice changes
    nothing. An item whose picture cannot be used goes into quarantine, with the reason. A snapshot
    that lacks more than the settings allow is refused.
    """
    from recjob.jobs.import_tables import import_tables as body

    _run_job("import", partial(body, folder=folder, snapshot=snapshot), settings, as_json)


@app.command("train-autoencoder")
def train_autoencoder(
    data: DataOption = None,
    out: OutOption = None,
    if_changed: IfChangedOption = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the autoencoder that finds visually similar items (Sec. 3.3.2).

    python cli.py train-autoencoder
    """
    from recjob.jobs.train_autoencoder import train_autoencoder as training

    _train("train-autoencoder", training, data, out, if_changed, settings, as_json)


@app.command("train-teacher")
def train_teacher(
    data: DataOption = None,
    out: OutOption = None,
    if_changed: IfChangedOption = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the large teacher with the N-pair loss (Sec. 3.2.1).

    python cli.py train-teacher --settings examples/wardrobe-cpu.toml

    On a machine with a GPU and no database: --data ../shop-export --out ../trained, and then
    models import ../trained/teacher where the database is.
    """
    from recjob.jobs.train_teacher import train_teacher as training

    _train("train-teacher", training, data, out, if_changed, settings, as_json)


@app.command()
def distill(
    data: DataOption = None,
    out: OutOption = None,
    if_changed: IfChangedOption = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Distil the compact student from the active teacher by FND-CL (Sec. 3.2 to 3.4).

    python cli.py distill

    With --data and --out it reads the teacher and the autoencoder that were trained there.
    """
    from recjob.jobs.distill import distill as training

    _train("distill", training, data, out, if_changed, settings, as_json)


@app.command("compile")
def compile_command(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Id of a student; default: the newest candidate, else the active one."
        ),
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export the student to ONNX, check it against torch, and build TensorRT engines.

    python cli.py compile
    """
    from recjob.jobs.compile import compile_student as body

    _run_job("compile", partial(body, model_id=model), settings, as_json)


@app.command()
def embed(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Compute the vectors of items, outfits and users into Postgres and FAISS.

    python cli.py embed

    Only what is new is computed. TensorRT runs where a GPU and an engine for it are there, else
    torch; the result says which and why.
    """
    from recjob.jobs.embed import embed as body

    _run_job("embed", body, settings, as_json)


@app.command("nightly-recommend")
def nightly_recommend(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Score the candidate outfits for every user, check the lists and publish them.

    python cli.py nightly-recommend

    Newcomers and outfits that came after the last embed are picked up.
    """
    from recjob.jobs.nightly_recommend import nightly_recommend as body

    _run_job("nightly-recommend", body, settings, as_json)


app.command()(gate)
app.command()(evaluate)
app.command()(compare)


@app.command()
def report(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Write the page of the published run: what users like and what they get, in pictures.

    python cli.py report
    """
    from recjob.jobs.make_report import make_report as body

    _run_job("report", body, settings, as_json)


@app.command()
def recommend(
    user: Annotated[
        str | None, typer.Argument(help="Id of the user; none: visitors without an id.")
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a user's published list with items and scores.

    python cli.py recommend user-001
    """
    from recjob.jobs.queries import recommendations

    answer = recommendations(load_settings(settings), user)
    if as_json:
        print_json(answer.model_dump(mode="json"))
        return
    who = "visitors without an id" if answer.user is None else f"{answer.user} ({answer.kind})"
    table = Table(title=f"{who}, run {answer.run}")
    for heading in ("rank", "score", "outfit", "items"):
        table.add_column(heading, justify="right" if heading in ("rank", "score") else "left")
    for outfit in answer.outfits:
        items = ", ".join(f"{item.category} {item.item}" for item in outfit.items)
        table.add_row(str(outfit.rank), f"{outfit.score:.4f}", outfit.outfit, items)
    Console().print(table)


@db_app.command("upgrade")
def db_upgrade(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Migrate the database to this version's schema.

    python cli.py db upgrade
    """
    from recjob.jobs.queries import upgrade_schema

    print_values(upgrade_schema(load_settings(settings)), as_json)


@db_app.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="Revision to go down to; base: drop all.")],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Migrate the database down; what the dropped tables held is lost.

    python cli.py db downgrade 0003
    """
    from recjob.jobs.queries import downgrade_schema

    print_values(downgrade_schema(load_settings(settings), revision), as_json)


def _train(
    name: str,
    training: Callable[[TrainingSite], JobResult],
    data: Path | None,
    out: Path | None,
    if_changed: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Train on the database, or with `data` and `out` on folders alone."""
    if data is None and out is None:
        from recjob.jobs.retraining import only_if_changed
        from recjob.jobs.workspace import on_database

        body: Callable[[JobContext], JobResult] = on_database(training)
        _run_job(name, only_if_changed(name, body) if if_changed else body, file, as_json)
        return
    if if_changed:
        raise UserError("--if-changed asks the registry; leave it out with --data and --out")
    if data is None or out is None:
        given, missing = ("--out", "--data") if data is None else ("--data", "--out")
        raise UserError(
            f"{given} needs {missing} beside it: together they train without a database"
        )
    from recjob.jobs.offline import run_offline

    with logs.in_job(name, None):
        result = run_offline(training, data, out, load_settings(file))
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts one answers
        print_values(result, as_json)


def _run_job(
    name: str,
    body: Callable[[JobContext], JobResult],
    file: Path | None,
    as_json: bool,
) -> None:
    """Run one job and print its result."""
    from recjob.jobs.start import start_job

    print_values(start_job(name, load_settings(file), body), as_json)


def _print_pipeline(result: PipelineResult, as_json: bool) -> None:
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    table = Table(title="stages")
    table.add_column("stage")
    table.add_column("time", justify="right")
    table.add_column("peak memory", justify="right")
    for stage in result.stages:
        table.add_row(*stage.for_people)
    table.add_row(*result.total.for_people, style="bold")
    console = Console()
    console.print(table)
    quality = Table(title="AUC on the test part")
    quality.add_column("method")
    quality.add_column("AUC", justify="right")
    for method in ("student", "teacher", "popularity", "random"):
        quality.add_row(method, f"{getattr(result, f'auc_{method}'):.4f}")
    console.print(quality)
    console.print(
        f"{result.recommended_users} lists: {result.users} warm users, {result.cold_starters} "
        f"cold starters, {result.strangers} strangers"
    )
    sys.stdout.write(f"Open {result.report}\n")
