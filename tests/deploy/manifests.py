"""The deployment's files, read strictly, and the pods and commands that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
import yaml
from typer.core import TyperGroup

from recjob.cli.app import app
from recjob.settings import ENVIRONMENT_PREFIX

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
PROGRAM: Final = "/app/cli.py"
"""Where the image holds the program."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that comes twice in one mapping, where PyYAML takes the later one."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    written = [
        loader.construct_object(key, deep=True)
        for key, _ in node.value
        if key.tag != "tag:yaml.org,2002:merge"
    ]
    twice = {key for key in written if written.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"twice: {sorted(twice)}", node.start_mark
        )
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str) -> list[Any]:
    """The YAML documents of a text. Raises yaml.YAMLError, also for a key that comes twice."""
    return [one for one in yaml.load_all(text, Loader=_StrictLoader) if one is not None]


def documents(file: Path) -> list[Any]:
    """The YAML documents of a file."""
    return parse(file.read_text(encoding="utf-8"))


def yaml_files() -> list[Path]:
    """Every YAML file of the deployment."""
    return sorted(file for kind in ("*.yaml", "*.yml") for file in DEPLOY.rglob(kind))


@dataclass(frozen=True)
class Workload:
    """A Kubernetes object that starts pods."""

    kind: str
    name: str
    spec: dict[str, Any]
    """Of the object itself."""
    job: dict[str, Any] | None
    """Of the Job that it is or makes."""
    labels: dict[str, str]
    """Of its pods."""
    pod: dict[str, Any]
    """Their spec."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, the ones that run first included."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]


def workloads(objects: Sequence[dict[str, Any]]) -> Iterator[Workload]:
    """Those of the objects that start pods."""
    for one in objects:
        spec, kind = one.get("spec", {}), one.get("kind", "")
        job = {"CronJob": spec.get("jobTemplate", {}).get("spec"), "Job": spec}.get(kind)
        owner = spec if kind == "Deployment" else job
        if owner is not None:
            template = owner["template"]
            labels = template["metadata"]["labels"]
            yield Workload(kind, one["metadata"]["name"], spec, job, labels, template["spec"])


def recjob_environment(variables: dict[str, Any]) -> dict[str, str]:
    """Those that the program reads; a secret's value stands for itself."""
    return {
        name: "postgresql://someone@somewhere/db" if value is None else str(value)
        for name, value in variables.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def check_command(arguments: Sequence[str]) -> None:
    """Parse a command line as the program would, and run nothing.

    Raises click's UsageError for a command, an option or an argument that is not there.
    """
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    parent = None
    while isinstance(command, TyperGroup):
        parent = command.make_context(command.name, rest, parent=parent, allow_extra_args=True)
        _, command, rest = command.resolve_command(parent, rest)
    command.make_context(command.name, rest, parent=parent)


def program_commands(script: str) -> list[list[str]]:
    """The arguments of each `python …/cli.py ARGUMENTS` of a shell script."""
    lines = [line.split() for line in script.splitlines() if "cli.py" in line]
    return [
        words[next(i for i, w in enumerate(words) if w.endswith("cli.py")) + 1 :] for words in lines
    ]


def read_env(file: Path) -> dict[str, str]:
    """The assignments of an environment file, those in comments left out."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def relative(path: Path, start: Path) -> str:
    """`path` as seen from `start`, which need not hold it."""
    return Path(os.path.relpath(path, start)).as_posix()
