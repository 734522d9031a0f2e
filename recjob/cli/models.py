"""Commands `models ...` and `gate`: the registry, and how a student comes into use."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from recjob.cli.evaluation import ModelA, ModelB, NegativesOption, compare
from recjob.cli.output import (
    JsonOption,
    SettingsOption,
    print_json,
    print_rows,
    print_values,
)
from recjob.settings import load_settings

if TYPE_CHECKING:
    from recjob.jobs.gate import GateResult
    from recjob.jobs.model_registry import ModelDetails, StatusChange
    from recjob.jobs.runner import JobContext

models_app = typer.Typer(no_args_is_help=True, help="The model registry.")

ModelArgument = Annotated[str, typer.Argument(help="Its id, from `models list`.")]


class RoleName(StrEnum):
    """What a model is for."""

    autoencoder = "autoencoder"
    teacher = "teacher"
    student = "student"


def gate(
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Take it into use whatever the checks say; that stays on record."
        ),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the newest student into use, if it is good enough beside the active one.

    python cli.py gate

    Both rank the same stored lists of the test part. Settings say what the new one must show: AUC
    user by user, more than popularity, newcomers, coverage, agreement with its teacher, compiled
    forms that compute the same, and speed. Refused (exit code 4), it stays a candidate.
    """
    from recjob.jobs.gate import GateResult
    from recjob.jobs.gate import gate as body
    from recjob.jobs.start import start_job

    result = start_job("gate", load_settings(settings), partial(body, force=force))
    if as_json or not isinstance(result, GateResult):
        print_values(result, as_json)
        return
    _print_decision(result)


@models_app.command("list")
def models_list(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """List the models, the newest first.

    python cli.py models list
    """
    from recjob.jobs.model_registry import models

    print_rows("models", models(load_settings(settings)), as_json)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Its id, or a role (student, ...): the one in use.")],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a model: where it came from, how good it is, and what the gate said of it.

    python cli.py models show student
    """
    from recjob.jobs.model_registry import model_details

    found = model_details(load_settings(settings), name)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_model(found)


@models_app.command("compare")
def models_compare(
    first: ModelA,
    second: ModelB,
    negatives: NegativesOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two models user by user on the same stored lists: what `compare` does.

    python cli.py models compare student-20260801-030012-5f2c1a student
    """
    compare(first, second, negatives, settings, as_json)


@models_app.command("promote")
def models_promote(
    model: ModelArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also a student that the gate did not pass; that stays on record."
        ),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a candidate or a retired model into use; the one before is retired.

    python cli.py models promote student-20260801-030012-5f2c1a
    """
    from recjob.jobs.model_registry import promote as body

    _change("models-promote", partial(body, model_id=model, force=force), settings, as_json)


@models_app.command("retire")
def models_retire(
    model: ModelArgument, settings: SettingsOption = None, as_json: JsonOption = False
) -> None:
    """Retire a candidate, so that the gate does not look at it any more.

    python cli.py models retire student-20260801-030012-5f2c1a
    """
    from recjob.jobs.model_registry import retire_model as body

    _change("models-retire", partial(body, model_id=model), settings, as_json)


@models_app.command("rollback")
def models_rollback(
    role: Annotated[RoleName, typer.Argument(help="Whose.")] = RoleName.student,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Return to the model that was in use before; a second time to the one before that.

    python cli.py models rollback
    """
    from recjob.jobs.model_registry import roll_back as body

    _change("models-rollback", partial(body, role=role.value), settings, as_json)


@models_app.command("import")
def models_import(
    folder: Annotated[Path, typer.Argument(help="Folder of one model: OUT/teacher, ...")],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model that was trained with --data and --out.

    python cli.py models import ../trained/student

    A student is a candidate until `compile` and `gate`; an autoencoder or a teacher is in use at
    once.
    """
    from recjob.jobs.import_model import import_model as body
    from recjob.jobs.start import start_job

    job = partial(body, folder=folder)
    print_values(start_job("models-import", load_settings(settings), job), as_json)


def _change(
    job: str,
    body: Callable[[JobContext], StatusChange],
    file: Path | None,
    as_json: bool,
) -> None:
    from recjob.jobs.start import start_job

    print_values(start_job(job, load_settings(file), body), as_json)


def _print_decision(result: GateResult) -> None:
    title = f"{result.model}: {result.decision}"
    if result.against is not None:
        title += f", beside {result.against} on {result.positives} test positives"
    table = Table(title=title)
    for heading in ("check", "", "new", "beside", "held against the limit", "limit", "meaning"):
        table.add_column(heading, overflow="fold")
    for check in result.checks:
        word = {True: "passed", False: "FAILED", None: "not measured"}[check.passed]
        numbers = (check.value, check.reference, check.decisive, check.limit)
        table.add_row(check.name, word, *map(_number, numbers), check.meaning)
    console = Console()
    console.print(table)
    console.print(result.next)


def _print_model(found: ModelDetails) -> None:
    values = found.model_copy(update={"decisions": (), "engines": ()})
    console = Console()
    print_values(values, as_json=False)
    if found.engines:
        engines = Table(title="compiled")
        for heading in ("file", "kind", "target", "sha256"):
            engines.add_column(heading, overflow="fold")
        for engine in found.engines:
            engines.add_row(engine.file, engine.kind, engine.target, engine.sha256)
        console.print(engines)
    for decision in found.decisions:
        console.print(
            f"gate, {decision.decided:%Y-%m-%d %H:%M}: {decision.decision} by "
            f"{decision.decided_by}, run {decision.run}, beside {decision.against or 'none'}"
        )
        if decision.reason:
            console.print(f"  {decision.reason}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
