"""The container image: what goes into it, as whom it runs, and that it holds nothing else."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recjob.settings import MetricsSettings, load_settings
from tests.deploy.dockerfile import Instruction, instructions, is_ignored
from tests.deploy.manifests import DEPLOY, PROGRAM, ROOT, check_command, recjob_environment
from tests.programs import installed

CONTAINER = DEPLOY / "container"
IGNORE = ROOT / ".dockerignore"
FINAL = 2
"""The stage that becomes the image."""


@pytest.fixture(scope="module")
def dockerfile() -> list[Instruction]:
    return instructions(CONTAINER / "Dockerfile")


def of(found: list[Instruction], name: str, stage: int | None = None) -> list[Instruction]:
    return [one for one in found if one.name == name and stage in (None, one.stage)]


def test_it_runs_as_a_user_who_is_not_root(dockerfile: list[Instruction]) -> None:
    users = of(dockerfile, "USER", FINAL)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1].text)
    last_run = max(i for i, one in enumerate(dockerfile) if one.name in ("RUN", "COPY"))
    assert dockerfile.index(users[-1]) > last_run


def test_the_final_stage_has_no_tool_to_build_with(dockerfile: list[Instruction]) -> None:
    packages = [one.text for one in of(dockerfile, "RUN", FINAL) if "apt-get install" in one.text]
    assert [re.findall(r"--no-install-recommends ([\w -]+?) *&&", one) for one in packages] == [
        ["tini"]
    ]
    assert not any("pip" in one.text for one in of(dockerfile, "RUN", FINAL))


def test_every_install_checks_hashes(dockerfile: list[Instruction]) -> None:
    installs = [
        command
        for one in of(dockerfile, "RUN")
        for command in re.split(r"&&|;", one.text)
        if re.search(r"pip install", command)
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in one for one in installs)


def test_both_stages_have_the_base_that_a_build_can_pin(dockerfile: list[Instruction]) -> None:
    assert [one.text for one in of(dockerfile, "FROM")] == [
        "${PYTHON_IMAGE} AS builder",
        "${PYTHON_IMAGE}",
    ]
    (base,) = of(dockerfile, "ARG", 0)
    name, _, tag = base.text.removeprefix("PYTHON_IMAGE=").partition(":")
    assert name
    assert tag not in ("", "latest")


def test_what_is_copied_is_there_and_is_sent_to_the_builder(dockerfile: list[Instruction]) -> None:
    copies = [one.words for one in of(dockerfile, "COPY") if "--from=builder" not in one.words]
    sources = [source for words in copies for source in words[:-1]]
    assert {"cli.py", "recjob", "migrations", "examples", "requirements-uv.lock"} <= set(sources)
    for source in sources:
        found = [path for path in ROOT.glob(source) if path.name != "__pycache__"]
        assert found, source
        for path in found:
            files = path.rglob("*.py") if path.is_dir() else [path]
            for file in files:
                assert not is_ignored(file.relative_to(ROOT).as_posix(), IGNORE), file
    assert not of(dockerfile, "ADD")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "var/postgres/PG_VERSION",
        "tests/conftest.py",
        "deploy/compose/.env",
        "deploy/kubernetes/secret.yaml",
        "recjob.toml",
        "recjob/jobs/__pycache__/runner.cpython-311.pyc",
        "deploy/container/secrets.txt",
    ],
)
def test_nothing_else_is_sent_to_the_builder(path: str) -> None:
    assert is_ignored(path, IGNORE)


def test_signals_reach_the_program(dockerfile: list[Instruction]) -> None:
    (entrypoint,), (command,) = of(dockerfile, "ENTRYPOINT"), of(dockerfile, "CMD")
    assert entrypoint.words == ["tini", "--", "python", PROGRAM]
    assert command.text.startswith("[")
    check_command(command.words)


def test_its_variables_are_settings(dockerfile: list[Instruction], tmp_path: Path) -> None:
    pairs = [pair.split("=", 1) for one in of(dockerfile, "ENV", FINAL) for pair in one.words]
    environment = dict(pairs)
    settings = load_settings(_empty(tmp_path), recjob_environment(environment))
    assert str(settings.home) == environment["RECJOB_HOME"] == environment["HOME"]
    assert settings.home.is_absolute()


def _empty(folder: Path) -> Path:
    file = folder / "recjob.toml"
    file.touch()
    return file


def test_the_port_is_that_of_the_settings(dockerfile: list[Instruction]) -> None:
    port = str(MetricsSettings().port)
    assert [one.text for one in of(dockerfile, "EXPOSE")] == [port]
    script = (CONTAINER / "healthcheck.py").read_text(encoding="utf-8")
    assert f'DEFAULT_PORT: Final = "{port}"' in script
    (check,) = of(dockerfile, "HEALTHCHECK")
    assert check.text.endswith('CMD ["python", "/app/healthcheck.py"]')


@contextmanager
def _server(status: int) -> Iterator[int]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1)])
def test_the_health_check_asks_the_scheduler(status: int, code: int) -> None:
    with _server(status) as port:
        done = _health_check(port)
    assert done.returncode == code, done.stderr


def test_the_health_check_says_why(unused_port: int) -> None:
    done = _health_check(unused_port)
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def unused_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return server.server_address[1]


def _health_check(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(CONTAINER / "healthcheck.py")],
        env=os.environ | {"RECJOB_METRICS__PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )


def _locked(file: Path) -> dict[str, set[str]]:
    """Hashes by `name==version`."""
    pins: dict[str, set[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([a-z0-9-]+==[^ ;]+)", line):
            hashes = pins.setdefault(pin[1], set())
        hashes |= set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)) if pins else set()
    return pins


def test_the_image_holds_the_locked_versions_of_what_it_needs_and_no_more() -> None:
    everything, image = (
        _locked(ROOT / "requirements.lock"),
        _locked(CONTAINER / "requirements.lock"),
    )
    assert image, "no pins found"
    differing = [pin for pin, hashes in image.items() if hashes != everything.get(pin)]
    assert not differing, "run make lock"
    assert all(image.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = _names([*project["project"]["dependencies"], *extras["ray"], *extras["tensorrt-rtx"]])
    held = {pin.partition("==")[0] for pin in image}
    assert wanted <= held, "run make lock"
    assert not held & (_names(project["dependency-groups"]["dev"]) - wanted)


def _names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", one) for one in requirements)
    return {name[0].lower().replace("_", "-").replace(".", "-") for name in found if name}


@pytest.mark.system
def test_hadolint_finds_no_fault() -> None:
    hadolint = installed("hadolint", "make install")
    done = subprocess.run(
        [hadolint, "--no-color", str(CONTAINER / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    bad = subprocess.run(
        [hadolint, "-"], input="FROM debian\nADD x y\n", capture_output=True, text=True, check=False
    )
    assert bad.returncode != 0
