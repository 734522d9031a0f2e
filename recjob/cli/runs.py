"""Commands `runs ...`: the runs whose recommendations are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_rows, print_values
from recjob.settings import load_settings

runs_app = typer.Typer(no_args_is_help=True, help="Published runs.")


@runs_app.command("list")
def runs_list(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """List the runs whose recommendations are kept, the newest first.

    python cli.py runs list
    """
    from recjob.jobs.queries import runs

    print_rows("runs", runs(load_settings(settings)), as_json)


@runs_app.command("show")
def runs_show(
    run: Annotated[int | None, typer.Argument(help="Its number; default: the published.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The run that readers see (the default).")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a kept run: what it counted, and a digest of all its lists.

    The digest is the sha256 over user ids and their ordered outfit ids, so that two runs with the
    same digest recommend the same.

    python cli.py runs show --published --json
    """
    from recjob.jobs.queries import run_details

    if run is not None and published:
        raise typer.BadParameter("give a run or --published, not both")
    print_values(run_details(load_settings(settings), run), as_json)


@runs_app.command("diff")
def runs_diff(
    before: Annotated[
        int | None, typer.Argument(help="Default: the run that readers saw before.")
    ] = None,
    after: Annotated[int | None, typer.Argument(help="Default: the published run.")] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two kept runs in the places that readers see.

    python cli.py runs diff 41 42
    """
    from recjob.jobs.queries import run_difference

    print_values(run_difference(load_settings(settings), before, after), as_json)


@runs_app.command("publish")
def runs_publish(
    run: Annotated[int, typer.Argument(help="Its number, from `runs list`.")],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run that a limit held back, or any other kept one. That is recorded with the run.

    python cli.py runs publish 42
    """
    from recjob.jobs.queries import publish_run

    print_values(publish_run(load_settings(settings), run), as_json)


@runs_app.command("rollback")
def runs_rollback(
    to: Annotated[
        int | None, typer.Option("--to", help="Run to show; default: the one before.")
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an earlier run again.

    python cli.py runs rollback
    """
    from recjob.jobs.queries import show_earlier_run

    print_values(show_earlier_run(load_settings(settings), to), as_json)
