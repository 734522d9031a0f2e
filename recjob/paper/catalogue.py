"""The tables and figures there are, by name, and what a module of one must have."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final, Protocol, cast

from recjob.paper.artifact import Artifact
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study

MODULES: Final = {
    "table1": "recjob.paper.table1",
    "table2": "recjob.paper.table2",
    "table3": "recjob.paper.table3",
    "table4": "recjob.paper.table4",
    "table5": "recjob.paper.table5",
    "figure4": "recjob.paper.figure4",
    "figure5": "recjob.paper.figure5",
    "figure6": "recjob.paper.figure6",
    "figure7": "recjob.paper.figure7",
    "figure8": "recjob.paper.figure8",
    "claim": "recjob.paper.claim",
    "beyond": "recjob.paper.beyond",
}
"""In the order in which `paper all` makes them."""


class ArtifactModule(Protocol):
    """One table or figure: a module of `recjob.paper`."""

    NAME: str
    """As in `MODULES`; of its files and on the command line."""
    TITLE: str

    @staticmethod
    def needs(study: Study) -> Sequence[RunSpec]:
        """The runs that `build` asks for; they are computed before it is called."""
        ...

    @staticmethod
    def build(study: Study) -> Artifact:
        """Make it from finished runs, without training.

        `study.run` raises NotRunError for a run that failed: its row then says "not run".
        """
        ...


def artifact_module(name: str) -> ArtifactModule:
    """The module of a table or figure, imported when it is asked for (matplotlib is optional)."""
    return cast(ArtifactModule, import_module(MODULES[name]))
