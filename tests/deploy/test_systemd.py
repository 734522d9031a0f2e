"""The systemd units: what they start, that they end in time, and that systemd takes them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from recjob.settings import ScheduleSettings, load_settings
from tests.deploy.manifests import (
    DEPLOY,
    check_command,
    program_commands,
    read_env,
    recjob_environment,
)
from tests.programs import installed

SYSTEMD = DEPLOY / "systemd"
DROP_IN = SYSTEMD / "recjob-.service.d" / "50-recjob.conf"
PYTHON = Path("opt/recjob/.venv/bin/python")
HIGHEST_EXPOSURE = 25
"""Tenths, of `systemd-analyze security`: ours have 20 to 22; without the drop-in it is 96."""
SERVICES = ("schedule", "import", "nightly", "student", "teacher", "retention")
TIMERS = ("nightly", "student", "teacher", "retention")


class _Repeating(dict[str, str]):
    """A key that comes again adds a line, as ExecStart does."""

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(value, list) and key in self:
            value = [*self[key], *value]
        super().__setitem__(key, value)  # type: ignore[assignment]


def unit(file: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeating)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(file.read_text(encoding="utf-8"))
    return parser


def service(name: str) -> configparser.RawConfigParser:
    return unit(SYSTEMD / f"recjob-{name}.service")


def test_the_units_are_these() -> None:
    found = {file.name for file in SYSTEMD.iterdir() if file.suffix in (".service", ".timer")}
    assert found == {f"recjob-{s}.service" for s in SERVICES} | {
        f"recjob-{t}.timer" for t in TIMERS
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_starts_commands_that_exist(name: str) -> None:
    starts = service(name).get("Service", "ExecStart")
    commands = program_commands(starts)
    assert len(commands) == len(starts.splitlines()) >= 1
    for command in commands:
        check_command(command)


def test_the_nightly_unit_goes_on_after_a_failed_import() -> None:
    night = service("nightly")
    assert night.get("Unit", "Wants") == night.get("Unit", "After") == "recjob-import.service"
    assert not night.has_option("Unit", "Requires")
    assert program_commands(night.get("Service", "ExecStart")) == [["embed"], ["nightly-recommend"]]


def test_jobs_have_time_to_end() -> None:
    common = unit(DROP_IN)
    assert int(common.get("Service", "TimeoutStopSec")) > ScheduleSettings().kill_seconds
    assert common.get("Service", "KillMode") == "mixed"
    assert common.get("Service", "OOMPolicy") == "continue"
    assert common.get("Service", "RestartPreventExitStatus") == "2 4"


def test_a_failed_scheduler_comes_back() -> None:
    assert service("schedule").get("Service", "Restart") == "on-failure"


def test_nothing_secret_is_in_the_units(tmp_path: Path) -> None:
    common = unit(DROP_IN)
    environment = dict(pair.split("=", 1) for pair in common.get("Service", "Environment").split())
    file = tmp_path / "recjob.toml"
    file.touch()
    settings = load_settings(file, recjob_environment(environment))
    assert settings.home == Path("/var/lib") / common.get("Service", "StateDirectory")
    example = read_env(SYSTEMD / "recjob.env.example")
    assert example == {"RECJOB_DATABASE_URL": ""}
    assert common.get("Service", "EnvironmentFile") == "-/etc/recjob/recjob.env"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which recjob is installed as deploy/README.md says."""
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, units)
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        if target.is_file():
            shutil.copy(target, units)
    program = tmp_path / PYTHON
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    return tmp_path


def _analyze(machine: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = installed("systemd-analyze", "systemd")
    return subprocess.run(
        [program, verb, f"--root={machine}", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def _verify(machine: Path) -> subprocess.CompletedProcess[str]:
    names = [f"recjob-{one}.service" for one in SERVICES] + [
        f"recjob-{one}.timer" for one in TIMERS
    ]
    return _analyze(machine, "verify", "--man=no", *names)


@pytest.mark.system
def test_systemd_takes_the_units(machine: Path) -> None:
    done = _verify(machine)
    # An unknown key is a warning, with exit code 0.
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("recjob-.service.d/50-recjob.conf", "ProtectClock=", "ProtectClocks="),
        ("recjob-nightly.timer", "01:00:00", "25:00:00"),
        ("recjob-schedule.service", "/opt/recjob/.venv", "/opt/elsewhere/.venv"),
    ],
)
def test_systemd_would_tell_of_a_mistake(machine: Path, file: str, right: str, wrong: str) -> None:
    path = machine / "etc" / "systemd" / "system" / file
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    assert _verify(machine).stderr


@pytest.mark.system
@pytest.mark.parametrize("name", SERVICES)
def test_the_units_are_hardened(machine: Path, name: str) -> None:
    arguments = ("--offline=true", f"--threshold={HIGHEST_EXPOSURE}", f"recjob-{name}.service")
    done = _analyze(machine, "security", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (machine / "etc/systemd/system/recjob-.service.d/50-recjob.conf").unlink()
    assert _analyze(machine, "security", *arguments).returncode != 0
