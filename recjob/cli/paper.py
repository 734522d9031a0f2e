"""Command `paper`: the paper's tables and figures from a data folder, without a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_values
from recjob.errors import UserError
from recjob.logs import in_job, in_stage, say
from recjob.settings import Settings, load_settings

if TYPE_CHECKING:
    from recjob.paper.shop import Progress

RESULTS_FOLDER = Path("results")
QUICK_FILE = Path(__file__).resolve().parents[2] / "examples" / "paper-quick.toml"


def paper(
    what: Annotated[
        list[str],
        typer.Argument(
            help="table1 to table5, figure4 to figure8, claim, or all; several are welcome."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="Folder in the import format; with --users in Polyvore-U's."),
    ],
    users: Annotated[
        int | None,
        typer.Option("--users", help="The data are Polyvore-U with so many users: 630 or 519."),
    ] = None,
    cold: Annotated[
        Path | None,
        typer.Option("--cold", help="Folder of the newcomers; default: DATA-cold, if there."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for results and runs; default: results/NAME OF DATA."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Of teacher and students.")
    ] = None,
    teacher_epochs: Annotated[
        int | None, typer.Option("--teacher-epochs", min=1, help="Of the teacher alone.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, help="Runs of each row, one seed each."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda (all GPUs), or GPUs: cuda:0,cuda:1."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on each device.")] = 1,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small and short: examples/paper-quick.toml as settings."),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the paper's tables and figures from a data folder, with no database.

    python cli.py paper table2 table4 --data ../shop-export
    python cli.py paper all --data ../shop-export --quick
    python cli.py paper all --data ../polyvore --users 630 --device cuda:0,cuda:1

    Writes Markdown, CSV, JSON and PNG, with the paper's figures beside ours. What is computed
    already is not computed again, and a killed command goes on where it was.
    """
    from recjob.paper.make import Order, make, wanted_names
    from recjob.paper.shop import Source
    from recjob.paper.workers import COMMAND

    if quick and settings is not None:
        raise UserError("--quick is a settings file of its own; leave out --quick or --settings")
    chosen = load_settings(QUICK_FILE if quick else settings)
    chosen = _overridden(chosen, epochs, teacher_epochs, repeats)
    order = Order(
        wanted_names(what),
        Source(data, users, cold),
        out or RESULTS_FOLDER / _name(data, users),
        chosen,
        device or chosen.compute.device,
        workers,
    )
    with in_job(COMMAND, None):
        result = make(order, _bar, say)
    print_values(result, as_json)


def _overridden(
    settings: Settings, epochs: int | None, teacher_epochs: int | None, repeats: int | None
) -> Settings:
    """The settings with what the options say."""
    student = {} if epochs is None else {"epochs": epochs}
    teacher = student if teacher_epochs is None else {"epochs": teacher_epochs}
    counts = {} if repeats is None else {"repeats": repeats}
    return settings.model_copy(
        update={
            "student": settings.student.model_copy(update=student),
            "teacher": settings.teacher.model_copy(update=teacher),
            "paper": settings.paper.model_copy(update=counts),
        }
    )


def _name(data: Path, users: int | None) -> str:
    """Of the results' folder."""
    name = data.resolve().name
    return name if users is None else f"{name}-{users}"


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from recjob.jobs.progress import progress_bar

    with in_stage(label), progress_bar(label) as bar:
        yield bar.to
