"""Job `import polyvore DIR --users U`: Polyvore-U into the catalog and the packed pictures."""

from __future__ import annotations

from pathlib import Path

from recjob.catalog.polyvore import read_polyvore
from recjob.jobs.import_tables import ImportResult, import_checked
from recjob.jobs.runner import JobContext


def import_polyvore(context: JobContext, folder: Path, users: int) -> ImportResult:
    """Check every file, decode the pictures, then write the catalog in one transaction.

    With `split.kind` = "auto" or "files" the parts and the evaluation's negatives are the files'.

    Raises DataError with file, line and column of the first mistake; then nothing is imported.
    """
    context.freeze(folder=str(folder.resolve()), users=users)
    with context.stage("check"):
        tables = read_polyvore(folder, users, training_negatives=False)
    return import_checked(context, tables)
