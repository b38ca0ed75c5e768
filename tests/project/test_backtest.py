"""`kedro run --pipelines backtest` on a finished run."""

import pytest
from kedro.framework.project import pipelines

from kedro_provenance.kedro_internals import TypesOfParameters
from projects import kedro_run

METHODS = ["popularity", "item_knn", "linear", "fusion", "ranker"]


def test_methods_are_ranked_in_windows_of_time_and_the_log_is_audited(finished_run, capsys):
    """It takes 6 s: two windows fit and compare all methods."""
    catalog = kedro_run(finished_run.project, {"backtest": {"windows": 2, "likes": 20}}, pipeline_names=["backtest"])
    metrics = catalog.load("backtest_metrics")
    assert [(each["window"], each["model"]) for each in metrics] == [(w, name) for w in (1, 2) for name in METHODS]
    assert metrics[0]["from"] <= metrics[0]["until"] <= metrics[-1]["from"]
    assert sum(each["share_of_windows_won"] for each in catalog.load("backtest_methods")) == pytest.approx(1)
    assert [each["window"] for each in catalog.load("backtest_winners")] == [2]
    assert [each["value"] is not None for each in catalog.load("log_audit")] == 8 * [True]
    assert [line.name for line in catalog.load("backtest_figure").data][::2] == METHODS
    shown = " ".join(capsys.readouterr().out.split())
    assert "NDCG@10 by window: 40 likes; models are fitted before each window" in shown
    assert "Kendall's tau between the orders" in shown
    assert "Audit of the log" in shown


def test_no_node_reads_a_part_of_a_block_that_another_one_reads_whole(finished_run):
    """Kedro, which replaces typed blocks by their objects, would look for the part in the object."""
    parameters = {"backtest": {"windows": 2, "likes": 20}, "recommendation": {"sources": ["item_knn", "retriever"]}}
    catalog = kedro_run(finished_run.project, parameters, pipeline_names=["backtest"])
    assert "retriever" in {each["model"] for each in catalog.load("backtest_metrics")}
    types = TypesOfParameters(dict(pipelines)).extract_types_from_pipelines()
    assert "history" in types
    assert [(whole, part) for whole in types for part in types if part.startswith(f"{whole}.")] == []
