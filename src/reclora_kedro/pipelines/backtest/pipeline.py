"""The backtest pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.backtest import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import named, node, shown, step
from reclora_kedro.recommendation import backtest
from reclora_kedro.recommendation.ranking_report import backtest_tables


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Rank likes of windows of time by models that were fitted before each, and audit the log."""
    results = ["backtest_methods", "backtest_winners", "log_audit"]
    trained = ["retriever", "engine"] if names.retriever else []
    return step(
        "backtest",
        node(
            nodes.backtest_methods,
            named("log", config="params:backtest")
            | {name: f"params:{name}" for name in ("recommendation", "history", "bootstrap", *trained)}
            | names.source_settings,
            ["backtest_metrics", "backtest_audit_of_time"],
        ),
        node(nodes.audit_log, ["interactions", "backtest_audit_of_time"], "log_audit"),
        node(backtest.summarize_methods, "backtest_metrics", "backtest_methods"),
        node(backtest.follow_winners, "backtest_metrics", "backtest_winners"),
        node(nodes.plot_backtest, ["backtest_metrics", "params:recommendation"], "backtest_figure"),
        shown("show_backtest", backtest_tables, ["backtest_metrics", *results]),
    )
