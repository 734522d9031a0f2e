"""The folders of the home; a module without imports, so that a word costs no library."""

from __future__ import annotations

from typing import Final

ARTIFACTS_FOLDER: Final = "artifacts"
"""Models, their indexes and what a night works on."""
INDEXES_FOLDER: Final = "indexes"
"""In the artifacts' folder: FAISS indexes, by model."""
IMAGES_FOLDER: Final = "images"
"""Packed pictures, by their side in pixels."""
CHECKPOINTS_FOLDER: Final = "checkpoints"
"""What trainings that did not come to their end go on from, by role."""
LOGS_FOLDER: Final = "logs"
"""What the scheduler's jobs printed, by entry."""
REPORT_FOLDER: Final = "report"
"""The page of the last night."""
