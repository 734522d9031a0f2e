"""The compose files: what runs, who may reach what, and that nothing secret is in them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recjob.settings import ScheduleSettings, load_settings
from tests.deploy.manifests import (
    DEPLOY,
    check_command,
    documents,
    parse,
    read_env,
    recjob_environment,
)
from tests.programs import installed

COMPOSE = DEPLOY / "compose"
PROGRAM_SERVICES = ("migrate", "scheduler")
ONCE = ("migrate", "users")
"""They end, and those behind them wait for it."""
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|URL")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    (document,) = documents(COMPOSE / "compose.yaml")
    found: dict[str, Any] = document["services"]
    return found


def test_the_services_are_those_of_the_design(services: dict[str, Any]) -> None:
    wanted = {"postgres", "migrate", "users", "scheduler", "prometheus", "pushgateway", "grafana"}
    assert set(services) == wanted
    assert services["pushgateway"]["profiles"] == ["pushgateway"]


def test_every_service_is_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service), name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert not any("docker.sock" in one for one in service.get("volumes", [])), name


def test_what_is_published_is_for_this_machine_alone(services: dict[str, Any]) -> None:
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert set(published) == {"prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_database_is_reached_by_those_who_need_it(services: dict[str, Any]) -> None:
    (document,) = documents(COMPOSE / "compose.yaml")
    assert document["networks"]["database"] == {"internal": True}
    inside = {name for name, one in services.items() if "database" in one["networks"]}
    assert inside == {"postgres", "migrate", "users", "scheduler"}
    assert services["postgres"]["networks"] == ["database"]


def test_each_waits_for_the_one_before_it(services: dict[str, Any]) -> None:
    def condition(name: str, before: str) -> str:
        found: str = services[name]["depends_on"][before]["condition"]
        return found

    assert condition("migrate", "postgres") == "service_healthy"
    assert condition("users", "migrate") == "service_completed_successfully"
    assert condition("scheduler", "users") == "service_completed_successfully"
    for name in ONCE:
        assert services[name]["restart"] == "no"
    for name in set(services) - set(ONCE) - {"scheduler"}:  # the scheduler's is in its image
        assert services[name]["healthcheck"]["test"], name


def test_no_secret_has_a_value_or_a_default(services: dict[str, Any]) -> None:
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    defaulted = set(re.findall(r"\$\{(\w+):-", text))
    example = read_env(COMPOSE / ".env.example")
    assert not any(SECRET.search(name) for name in defaulted)
    assert needed <= set(example)
    assert all(example[name] == "" for name in needed)
    mentioned = (COMPOSE / ".env.example").read_text(encoding="utf-8")
    assert all(f"#{name}=" in mentioned for name in defaulted)
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.search(r"\$\{\w+:\?", str(value)), name
    assert (COMPOSE / ".gitignore").read_text(encoding="utf-8").split() == [".env"]


def test_settings_and_variables_are_known(services: dict[str, Any]) -> None:
    for name in PROGRAM_SERVICES:
        environment = recjob_environment(services[name]["environment"])
        settings = load_settings(COMPOSE / "recjob.toml", environment)
        assert settings.database_url is not None
    settings = load_settings(COMPOSE / "recjob.toml", {})
    assert settings.metrics.host == "0.0.0.0"
    assert settings.metrics.sink == "scheduler"
    mounts = [one.split(":") for one in services["scheduler"]["volumes"]]
    targets = [mount[-2] if mount[-1] == "ro" else mount[-1] for mount in mounts]
    assert settings.schedule.import_folder in targets
    (prometheus,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    assert f"scheduler:{settings.metrics.port}" in [
        target
        for scrape in prometheus["scrape_configs"]
        for static in scrape["static_configs"]
        for target in static["targets"]
    ]


def test_the_commands_are_the_programs(services: dict[str, Any]) -> None:
    for name in PROGRAM_SERVICES:
        check_command(services[name]["command"])


def test_the_scheduler_has_time_to_end_its_job(services: dict[str, Any]) -> None:
    assert services["scheduler"]["stop_grace_period"] == "1m"
    assert ScheduleSettings().kill_seconds < 60


def test_each_logs_in_as_a_user_of_its_own(services: dict[str, Any]) -> None:
    def user(name: str) -> str:
        url = services[name]["environment"]["RECJOB_DATABASE_URL"]
        return str(re.match(r"postgresql://(\w+):", url)[1])  # type: ignore[index]

    assert user("migrate") == services["postgres"]["environment"]["POSTGRES_USER"]
    assert user("scheduler") == "recjob_scheduler"
    sql = (DEPLOY / "postgres" / "users.sql").read_text(encoding="utf-8")
    asked = set(re.findall(r"\\getenv \w+ (\w+)", sql))
    assert asked == {"SCHEDULER_PASSWORD", "SHOP_PASSWORD", "WATCHER_PASSWORD"}
    assert asked <= set(services["users"]["environment"])


def test_what_is_mounted_from_here_is_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), source
                assert mount.endswith(":ro"), mount
    build = services["scheduler"]["build"]
    assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()


def test_a_key_that_comes_twice_is_refused() -> None:
    with pytest.raises(Exception, match="twice"):
        parse("services:\n  a: 1\n  a: 2\n")


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A copy of the compose folder, which takes its secrets from no one's real `.env`."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    return tmp_path / "deploy" / "compose"


SECRETS = {
    name: "x" for name, value in read_env(COMPOSE / ".env.example").items() if value == ""
} | {"SHOP_EXPORT": "/srv/export"}


@pytest.mark.system
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_compose_itself_accepts_the_files(deployment: Path, files: list[str]) -> None:
    done = _config(deployment, files, SECRETS)
    assert done.returncode == 0, done.stderr
    (config,) = parse(done.stdout)
    scheduler = config["services"]["scheduler"]
    url = scheduler["environment"]["RECJOB_DATABASE_URL"]
    assert url == "postgresql://recjob_scheduler:x@postgres:5432/recjob"
    assert ("deploy" in scheduler) == (len(files) == 2)


@pytest.mark.system
def test_compose_refuses_to_start_without_a_secret(deployment: Path) -> None:
    done = _config(deployment, ["compose.yaml"], SECRETS | {"SCHEDULER_PASSWORD": ""})
    assert done.returncode != 0
    assert "is missing in .env" in done.stderr


@pytest.mark.system
def test_compose_itself_checks_keys(deployment: Path) -> None:
    file = deployment / "compose.yaml"
    file.write_text(file.read_text().replace("pids_limit: 64", "pid_limit: 64"))
    assert _config(deployment, ["compose.yaml"], SECRETS).returncode != 0


def _config(
    folder: Path, files: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Of Docker's plugin, or of the older program, which Debian has; neither needs an engine."""
    options = [word for file in files for word in ("-f", file)]
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder)} | environment
    return subprocess.run(
        [*_compose(), *options, "config"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


@functools.cache
def _compose() -> list[str]:
    plugin = ["docker", "compose"]
    if shutil.which("docker"):
        asked = subprocess.run([*plugin, "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return plugin
    return [installed("docker-compose", "docker-compose")]
