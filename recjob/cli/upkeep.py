"""Commands that take away: what is known of a user, and what has become old."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_values
from recjob.settings import load_settings


def forget_command(
    user: Annotated[str, typer.Argument(help="Id of the user, as in the shop's export.")],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete all that is known of a user, and leave the user out of every later import.

    python cli.py forget user-001

    Rows, vectors in every model, lists of every kept run, mentions in the ledger and in logs; what
    trainings and nights that were cut short had saved. It waits for no job: where one is at work
    with users' data it ends with exit code 3. Killed in the middle, it is started again. The shop's
    own export, backups, and folders of trainings without a database are not touched.
    """
    from recjob.jobs.forget import forget as body
    from recjob.jobs.start import start_job

    print_values(start_job("forget", load_settings(settings), partial(body, user_id=user)), as_json)


def retention_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what is older than the settings allow: ledger rows, files of old models, logs.

    python cli.py retention --dry-run

    The active models, the teachers of students that are kept, and the newest candidate of each role
    stay. The registry goes on telling of models whose files are gone.
    """
    from recjob.jobs.retention import plan_retention
    from recjob.jobs.retention import retention as body
    from recjob.jobs.start import start_job

    if dry_run:
        print_values(plan_retention(load_settings(settings)), as_json)
    else:
        print_values(start_job("retention", load_settings(settings), body), as_json)
