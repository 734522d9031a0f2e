"""Skips fail the run where they are forbidden, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SKIPS = {
    "mark": "@pytest.mark.skip(reason='not here')\ndef test_a(): ...",
    "call": "def test_a():\n    pytest.skip('not here')",
    "fixture": "@pytest.fixture\ndef f(): pytest.skip('not here')\ndef test_a(f): ...",
    "module": "pytest.skip('not here', allow_module_level=True)",
    "import": "pytest.importorskip('no_such_module', reason='not here')",
}


def run_pytest(folder: Path, sources: dict[str, str], forbid: bool) -> tuple[int, str]:
    for name, source in sources.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{source}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.plugin_no_skips", "-rA"]
    result = subprocess.run(
        [*command, "--continue-on-collection-errors", "--rootdir", folder, folder],
        env={**os.environ, "FORBID_SKIPS": "1" if forbid else "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def test_every_skip_fails_the_run_where_forbidden(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, SKIPS, forbid=True)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in output.splitlines()[-1]  # the call
    assert "4 errors" in output.splitlines()[-1]  # while setting up and while collecting
    for name in SKIPS:
        assert f"test_{name}.py" in output
    assert "not here" in output


def test_a_skip_is_allowed_elsewhere(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, {**SKIPS, "passes": "def test_a(): ..."}, forbid=False)
    assert code == pytest.ExitCode.OK
    assert "1 passed, 5 skipped" in output


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "@pytest.mark.xfail\ndef test_a(): assert False"
    code, output = run_pytest(tmp_path, {"expected": source}, forbid=True)
    assert (code, "1 xfailed" in output) == (pytest.ExitCode.OK, True)
