"""An audit that was not done must not look like one that found nothing."""

from __future__ import annotations

import json
from typing import Any

from tests.audit import FAULTS, FINE, NOT_DONE, judge


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "numpy", "version": "2.1", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
FAULTY = {
    "name": "pillow",
    "version": "9.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.1"], "aliases": [], "description": "long"}],
}


def test_ends() -> None:
    assert judge("pypi", report(SOUND), "") == (FINE, ["pypi: 1 packages, no known faults"])
    assert judge("pypi", report(SOUND, SKIPPED), "") == (
        NOT_DONE,
        ["pypi: 1 of 2 were not found (torch)"],
    )
    assert judge("pypi", report(SKIPPED, FAULTY), "") == (
        FAULTS,
        ["pillow 9.0: PYSEC-1, mended in 9.1", "pypi: 1 known faults"],
    )
    assert judge("osv", "", "Traceback\nConnectionError: no such host\n") == (
        NOT_DONE,
        ["osv: cannot be asked (ConnectionError: no such host)"],
    )
    assert judge("osv", report(), "")[0] == NOT_DONE
