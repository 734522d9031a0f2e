"""What a machine of the Ray cluster does with a shard: the same functions as on one machine.

It has no database: what it needs comes from the shared work folder and the artifacts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recjob.ranking.scorer import ShardScorer
from recjob.ranking.shard import ListOptions, ScoringTable, UserShard
from recjob.store.work_files import WorkFolder


def table_name(fingerprint: str) -> str:
    """File of what all shards of a night share."""
    return f"{fingerprint}/table"


def users_name(fingerprint: str, number: int) -> str:
    """File of a shard's users."""
    return f"{fingerprint}/users-{number:06d}"


def lists_name(fingerprint: str, number: int) -> str:
    """File of a shard's lists."""
    return f"{fingerprint}/lists-{number:06d}"


class ScoringWorker:
    """Scores shards of one night."""

    def __init__(
        self, root: str, url: str, work: str, fingerprint: str, options: dict[str, Any]
    ) -> None:
        self._folder = WorkFolder(Path(root), url, work)
        self._fingerprint = fingerprint
        table = ScoringTable.from_bytes(self._folder.require(table_name(fingerprint)))
        self._scorer = ShardScorer(table, ListOptions.model_validate(options))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score the shard `row["number"]` and keep its lists."""
        number = int(row["number"])
        users = UserShard.from_bytes(self._folder.require(users_name(self._fingerprint, number)))
        lists = self._scorer(users).to_bytes()
        self._folder.write(lists_name(self._fingerprint, number), lists)
        return row
