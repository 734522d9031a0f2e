"""`make audit`: known faults of the locked dependencies, by pip-audit, with an honest end.

pip-audit ends with 0 also where the index knows none of the packages, as behind a mirror that has
no advisories. Here 0 means that each was looked up. 1: there are known faults. 5: it could not be
done, or not for all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path(__file__).resolve().parents[1] / "requirements.lock"
SERVICES: Final = ("pypi", "osv")
"""Asked in this order, until one knows all."""
FINE, FAULTS, NOT_DONE = 0, 1, 5
SHOWN: Final = 3
"""Packages that a message names of those that were not looked up."""
MINUTES: Final = 10
"""Longest wait for a service."""


def main() -> int:
    """Audit the lock; the exit code."""
    code, lines = NOT_DONE, ["nothing was asked"]
    for service in SERVICES:
        code, lines = judge(service, *ask(service))
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        if code != NOT_DONE:
            return code
    sys.stdout.write("not audited: run `make audit` where the network allows it\n")
    return code


def ask(service: str) -> tuple[str, str]:
    """What pip-audit says of the lock: its report in JSON, and the rest."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--require-hashes"]
    command += ["--disable-pip", "-f", "json", "-s", service, "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60 * MINUTES
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer in {MINUTES} minutes"
    return done.stdout, done.stderr


def judge(service: str, report: str, words: str) -> tuple[int, list[str]]:
    """Exit code, and lines for people."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (words.strip().splitlines() or ["it says nothing"])[-1]
        return NOT_DONE, [f"{service}: cannot be asked ({last[:200]})"]
    lines = [
        f"{package['name']} {package['version']}: {fault['id']}, "
        f"mended in {', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    skipped = [str(package["name"]) for package in packages if "skip_reason" in package]
    if lines:
        return FAULTS, [*lines, f"{service}: {len(lines)} known faults"]
    if skipped or not packages:
        named = ", ".join(skipped[:SHOWN]) + (", ..." if len(skipped) > SHOWN else "")
        return NOT_DONE, [f"{service}: {len(skipped)} of {len(packages)} were not found ({named})"]
    return FINE, [f"{service}: {len(packages)} packages, no known faults"]


if __name__ == "__main__":
    sys.exit(main())
