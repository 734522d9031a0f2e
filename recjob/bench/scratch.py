"""A home and a database of a benchmark's own, removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recjob.settings import Settings


@contextmanager
def scratch_home(settings: Settings) -> Iterator[tuple[Path, Settings]]:
    """A temporary folder, and the settings with their home in it.

    The database is an embedded one there, and artifacts are shared with nobody: a benchmark
    writes nothing where jobs do.
    """
    with tempfile.TemporaryDirectory(prefix="recjob-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded server's own user has to pass through
        home = folder / "var"
        home.mkdir()
        yield (
            folder,
            settings.model_copy(update={"home": home, "database_url": None, "artifacts_url": ""}),
        )
