"""The alerts and the dashboard in deploy/ read metrics, labels and values that the service has."""

import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from projects import ROOT
from reclora_kedro.serving.metrics import Metrics


def expressions(file):
    text = (ROOT / "deploy" / file).read_text()
    if file.endswith(".json"):
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    return [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def labels():
    """The labels of every sample of a service that has seen each of its metrics, by name."""
    metrics = Metrics()
    metrics.request("/recommend", "POST", 200, 0.01)
    metrics.rows("lens")(3)
    metrics.watch_queues({"lens": lambda: 0})
    metrics.events(1, 0, 0)
    metrics.journal_fault("commit")
    metrics.current_model("2026")
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name: {*sample.labels} for family in families for sample in family.samples}


def test_counts_that_alerts_watch_begin_at_zero():
    text = Metrics().text().decode()
    outcomes, steps = ("accepted", "duplicate", "of a forgotten user"), ("commit", "checkpoint", "read", "listener")
    for name, label, values in (("events", "outcome", outcomes), ("journal_faults", "step", steps)):
        for value in values:
            assert f'reclora_{name}_total{{{label}="{value}"}} 0.0\n' in text


@pytest.mark.parametrize("file", ["prometheus-rules.yml", "grafana-dashboard.json"])
def test_what_alerts_and_dashboard_read_is_what_the_service_writes(labels, file):
    read = expressions(file)
    assert len(read) >= 7
    for expression in read:
        names = re.findall(r"\breclora_\w+", expression)
        assert names
        assert {*names} <= labels.keys()
        for name, matched in re.findall(r"(reclora_\w+)\{(\w+)=", expression):
            assert matched in labels[name]
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {*grouped.split(", ")} <= set().union(*(labels[name] for name in names))
