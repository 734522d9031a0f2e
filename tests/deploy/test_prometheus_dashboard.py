"""The dashboard: what Grafana would show wrongly or not at all, seen without Grafana."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any, Final

import pytest

from tests.deploy.monitoring_files import PROVISIONING, dashboard, panels, read_yaml

ROWS: Final = [
    "Nights",
    "Stages",
    "Memory",
    "Latency",
    "Throughput",
    "Quality",
    "Drift and coverage",
    "Users and cold starters",
    "Schedule",
]
COLUMNS: Final = 24
VARIABLE: Final = {"type": "prometheus", "uid": "${datasource}"}
ALL: Final[list[dict[str, Any]]] = dashboard()["panels"]


def data_sources(value: Any) -> list[Any]:
    """Every `datasource` in a piece of the dashboard."""
    if isinstance(value, list):
        return [found for part in value for found in data_sources(part)]
    if not isinstance(value, dict):
        return []
    own = [value["datasource"]] if "datasource" in value else []
    return own + data_sources(list(value.values()))


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """The cells of the grid that a panel covers."""
    grid = panel["gridPos"]
    return {
        (x, y)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    }


def test_rows_are_there_in_their_order_and_none_is_empty() -> None:
    assert [panel["title"] for panel in ALL if panel["type"] == "row"] == ROWS
    assert {panel.row for panel in panels()} == set(ROWS)


def test_ids_and_titles_are_unique() -> None:
    assert [n for n, count in Counter(panel["id"] for panel in ALL).items() if count > 1] == []
    assert [t for t, count in Counter(panel.title for panel in panels()).items() if count > 1] == []


def test_no_panel_lies_on_another_or_beyond_the_edge() -> None:
    for panel in ALL:
        grid = panel["gridPos"]
        assert grid["x"] >= 0
        assert grid["x"] + grid["w"] <= COLUMNS, panel["title"]
    for one, other in combinations(ALL, 2):
        assert cells(one).isdisjoint(cells(other)), f"{one['title']} / {other['title']}"


def test_a_panel_stands_under_its_own_row() -> None:
    tops = [panel["gridPos"]["y"] for panel in ALL if panel["type"] == "row"]
    row = -1
    for panel in ALL:
        if panel["type"] == "row":
            row += 1
        else:
            end = (*tops, 10**6)[row + 1]
            assert tops[row] < panel["gridPos"]["y"] < end, panel["title"]


@pytest.mark.parametrize(
    "panel", [panel for panel in ALL if panel["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_panels_say_what_they_show_in_which_unit_and_where_from(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 10
    assert panel["targets"]
    found = data_sources(panel)
    assert len(found) == 1 + len(panel["targets"])
    assert all(source == VARIABLE for source in found)
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    config = panel["fieldConfig"]
    units = [config["defaults"].get("unit"), panel["options"].get("yAxis", {}).get("unit")]
    if panel["type"] != "table":
        assert any(units), "without a unit nobody knows what the numbers are"


def test_expressions_use_only_variables_that_are_there() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert names == {"datasource", "job", "engine"}
    for panel in panels():
        for expression in panel.expressions:
            rest = expression.replace("$__rate_interval", "")
            for name in names:
                rest = rest.replace(f"${name}", "")
            assert "$" not in rest, panel.title


def test_variables_come_from_the_data_source_that_is_chosen() -> None:
    chooser, *others = dashboard()["templating"]["list"]
    assert (chooser["type"], chooser["query"]) == ("datasource", "prometheus")
    assert others
    assert all(variable["datasource"] == VARIABLE for variable in others)


def test_grafana_is_provisioned_with_one_prometheus_and_the_folder_of_the_dashboard() -> None:
    [source] = read_yaml(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    [provider] = read_yaml(PROVISIONING / "dashboards" / "recjob.yml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
