"""The evaluation lists of a study: drawn once, kept in files, and read by every later command."""

from __future__ import annotations

import fcntl
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.evaluation_lists import EvaluationLists, evaluation_lists
from recjob.catalog.fingerprint import data_fingerprint
from recjob.catalog.given_negatives import GivenNegatives
from recjob.catalog.list_files import read_lists, write_lists
from recjob.catalog.split import Part
from recjob.settings import Settings
from recjob.training.data import TrainingData

LISTS_FOLDER: Final = "lists"
LOCK_FILE: Final = ".lock"
NAME_CHARACTERS: Final = 16
"""Of a digest, in a file's name."""


@dataclass(frozen=True)
class StudyLists:
    """Gives the lists of a study's parts."""

    folder: Path
    """OUT/lists."""
    data: TrainingData
    given: GivenNegatives | None
    """Negatives of the data's own, which come before drawn ones."""
    settings: Settings

    def of(self, name: str, part: Part, hard_share: float) -> EvaluationLists:
        """Lists of the users with a vector; `name` is what their file is called.

        Raises DataError where the file is damaged.
        """
        path = self.folder / f"{name}-{self._digest(part, hard_share)}.parquet"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK_FILE).open("a") as lock:  # two commands may share the folder
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_file():
                return read_lists(path, self.data.catalog)
            lists = evaluation_lists(
                self.data.catalog,
                self.data.parts,
                part,
                self.settings.evaluation.negatives_per_positive,
                self.settings.seed,
                users=self.data.users,
                hard_share=hard_share,
                given=self.given,
            )
            write_lists(path, self.data.catalog, lists, self.settings.seed)
        return lists

    def _digest(self, part: Part, hard_share: float) -> str:
        """Of what the lists are drawn from."""
        given = () if self.given is None else (self.given.positive, self.given.items)
        evaluation = self.settings.evaluation
        return digest_of(
            data_fingerprint(self.data.catalog),
            [int(part), hard_share, evaluation.negatives_per_positive, self.settings.seed],
            self.data.parts,
            self.data.users,
            *given,
        )[:NAME_CHARACTERS]


def digest_of(*parts: str | list[Any] | NDArray[Any]) -> str:
    """sha256 (hex) of texts, short lists and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
