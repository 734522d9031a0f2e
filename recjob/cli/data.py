"""Commands that bring data: Polyvore-U into the catalog, any data set into the import format."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_values
from recjob.settings import load_settings

_USERS_HELP = "The set of Polyvore-U, by its number of users: 630, 519, 53 or 32."


def import_polyvore_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that holds tuples_<USERS> and images.")
    ],
    users: Annotated[int, typer.Option(min=1, help=_USERS_HELP)],
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a set of Polyvore-U, with its own parts and negatives where its files have them.

    python cli.py import polyvore ../polyvore --users 630

    Checks every file before it writes. The parts are those of the files unless
    split.kind says otherwise. 53 and 32 are newcomers: import them after 630 and 519.
    """
    from recjob.jobs.import_polyvore import import_polyvore
    from recjob.jobs.start import start_job

    body = partial(import_polyvore, folder=folder, users=users)
    print_values(start_job("import", load_settings(settings), body), as_json)


def convert_command(
    source: Annotated[Path, typer.Argument(help="Folder to read.")],
    target: Annotated[Path, typer.Argument(help="New folder; it is written whole or not at all.")],
    source_kind: Annotated[
        Literal["tables", "polyvore"],
        typer.Option("--from", help="What SOURCE is; tables: the import format."),
    ],
    target_kind: Annotated[
        Literal["csv", "parquet", "polyvore"],
        typer.Option("--to", help="What TARGET becomes; csv, parquet: the import format."),
    ],
    users: Annotated[int | None, typer.Option(min=1, help=_USERS_HELP)] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links to the pictures instead of copies.")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a data set to or from the import format, pictures included.

    python cli.py convert ../polyvore ../polyvore-630 --from polyvore --users 630 --to parquet
    """
    from recjob.jobs.convert import convert

    result = convert(source, target, source_kind, target_kind, users, link, load_settings(settings))
    print_values(result, as_json)
