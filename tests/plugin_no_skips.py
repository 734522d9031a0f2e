"""Loaded with `-p tests.plugin_no_skips`: with FORBID_SKIPS=1 a skipped test fails.

A test may skip where something is absent that a user's machine need not have; where everything is
known to be there, a skip would hide that a test no longer runs. Expected failures stay what they
are.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

FORBIDDEN = os.environ.get("FORBID_SKIPS") == "1"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _fail_if_skipped(report: Report) -> Report:
    if FORBIDDEN and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason} (FORBID_SKIPS=1: no test may skip)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip in a test or its fixtures into a failure."""
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turns a skip of a whole module into a failure."""
    return _fail_if_skipped((yield))
