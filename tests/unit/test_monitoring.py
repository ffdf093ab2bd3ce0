"""The ready rules and dashboard speak of metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import metrics
from deploy import state
from vms import gauges
from vms.host import exposition

MONITORING = Path(state.__file__).parent / "monitoring"
FAMILIES = (*gauges.FAMILIES, *exposition.FAMILIES)


def exported() -> set[str]:
    """Every name that control or a host exports, as a query may use it."""
    names = {family.name for family in FAMILIES}
    for metric in metrics.REGISTRY.collect():
        if metric.type == "histogram":
            names |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(f"{metric.name}_total")
    return names


def test_no_two_metrics_have_one_name() -> None:
    names = [family.name for family in FAMILIES]
    names += [metric.name for metric in metrics.REGISTRY.collect()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_every_metric_that_a_file_names_is_exported(file: str) -> None:
    used = set(re.findall(r"\bcumulet_[a-z_]+", (MONITORING / file).read_text()))
    assert len(used) > 10
    assert used <= exported()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert rule["expr"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_has_panels_with_queries_and_asks_for_its_source() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert panels
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_example_scrapes_where_control_listens() -> None:
    example = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"] for job in example["scrape_configs"]}
    assert targets["cumulet"] == [{"targets": ["127.0.0.1:8000"]}]
    assert example["rule_files"] == ["alerts.yml"]
