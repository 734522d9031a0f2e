"""What a split came to: its shares, and whether training could tell of the test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recjob.catalog.catalog import Catalog, Int8Array
from recjob.catalog.item_disjoint import sharing
from recjob.catalog.split import LEFT_OUT, Part


@dataclass(frozen=True)
class SplitReport:
    """Shares of the positives, and what training and test have in common."""

    positives: int
    train: float
    validation_teacher: float
    validation_student: float
    test: float
    left_out: float
    """Share that no part has, since it would tell the training of what is tested."""
    test_users: int
    """Users with a positive in the test part."""
    test_sharing: float
    """Share of the test positives that have an item in common with a training positive of the same
    user; 0 with `split.kind` = "item-disjoint"."""

    def __str__(self) -> str:
        return (
            f"{self.train:.1%} train, {self.validation_teacher:.1%} and "
            f"{self.validation_student:.1%} validation, {self.test:.1%} test of {self.test_users} "
            f"users, {self.left_out:.1%} left out of {self.positives} positives; "
            f"{self.test_sharing:.1%} of the test outfits share an item with their user's training"
        )


def split_report(catalog: Catalog, parts: Int8Array) -> SplitReport:
    """Count the `parts` (n_positives,) that `split_parts` made."""
    n = max(1, parts.size)
    count = {int(part): int((parts == part).sum()) for part in (LEFT_OUT, *Part)}
    tested = parts == Part.TEST
    shared = int((sharing(catalog, parts == Part.TRAIN) & tested).sum())
    return SplitReport(
        positives=parts.size,
        train=count[Part.TRAIN] / n,
        validation_teacher=count[Part.VALIDATION_TEACHER] / n,
        validation_student=count[Part.VALIDATION_STUDENT] / n,
        test=count[Part.TEST] / n,
        left_out=count[LEFT_OUT] / n,
        test_users=len(np.unique(catalog.positives[tested, 0])),
        test_sharing=shared / max(1, count[Part.TEST]),
    )
