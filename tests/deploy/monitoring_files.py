"""What Prometheus and Grafana are given: rules, alerts and panels, read from deploy/."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS: Final = DEPLOY / "prometheus" / "prometheus.yml"
RULES: Final = DEPLOY / "prometheus" / "rules"
RULE_TESTS: Final = DEPLOY / "prometheus" / "tests"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "recjob.json"
PROVISIONING: Final = DEPLOY / "grafana" / "provisioning"

_METRIC: Final = re.compile(r"\brecjob_[a-z0-9_]+")
_RECORDED: Final = re.compile(r"\brecjob:[a-z0-9_:]+")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Rule:
    """An alert, or a recorded figure."""

    group: str
    name: str
    alert: bool
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard that shows something."""

    id: int
    row: str
    title: str
    kind: str
    description: str
    expressions: tuple[str, ...]


def read_yaml(file: Path) -> Any:
    """One YAML document."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def rules() -> list[Rule]:
    """Every rule, in the order of files and groups."""
    return [
        Rule(
            group["name"],
            rule.get("alert") or rule["record"],
            "alert" in rule,
            rule["expr"],
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for file in sorted(RULES.glob("*.yml"))
        for group in read_yaml(file)["groups"]
        for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    value = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def panels() -> list[Panel]:
    """Its panels but for the rows, in their order."""
    found, row = [], ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            expressions = tuple(target["expr"] for target in panel["targets"])
            found.append(
                Panel(
                    panel["id"],
                    row,
                    panel["title"],
                    panel["type"],
                    panel["description"],
                    expressions,
                )
            )
    return found


def metrics_in(expression: str) -> set[str]:
    """Names of our metrics in an expression, as the exporter has them."""
    return set(_METRIC.findall(_STRING.sub('""', expression)))


def recorded_in(expression: str) -> set[str]:
    """Names of recorded figures in an expression."""
    return set(_RECORDED.findall(_STRING.sub('""', expression)))
