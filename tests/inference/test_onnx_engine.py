"""ONNX Runtime, on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.deploy.manifests import ROOT


def test_nothing_is_kept_or_told_of_what_it_runs(tmp_path: Path) -> None:
    """Its telemetry begins with the import, in a database under the user's home."""
    program = "import recjob.inference.onnx_engine as one; print(one.onnxruntime.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(".") > 1
    assert list(tmp_path.rglob("*")) == []
