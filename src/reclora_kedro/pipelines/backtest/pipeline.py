"""The backtest pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.backtest import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Rank likes of windows of time by models that were fitted before each, and audit the log."""
    with_retriever = names.recommendation_reads_retriever
    retriever = {"retriever": "params:retriever", "engine": "params:engine"} if with_retriever else {}
    return Pipeline(
        [
            Node(
                nodes.backtest_with_retriever if with_retriever else nodes.backtest_methods,
                inputs={
                    "log": "log",
                    "config": "params:backtest",
                    "recommendation": "params:recommendation",
                    "history": "params:history",
                    "bootstrap": "params:bootstrap",
                    **retriever,
                    **names.source_settings,
                },
                outputs=["backtest_metrics", "backtest_audit_of_time"],
                name="backtest_methods",
            ),
            Node(
                nodes.audit_log,
                inputs=["interactions", "backtest_audit_of_time"],
                outputs="log_audit",
                name="audit_log",
            ),
            Node(
                nodes.summarize_windows,
                inputs="backtest_metrics",
                outputs=["backtest_methods", "backtest_winners"],
                name="summarize_windows",
            ),
            Node(
                nodes.plot_backtest,
                inputs=["backtest_metrics", "params:recommendation"],
                outputs="backtest_figure",
                name="plot_backtest",
            ),
            Node(
                nodes.show_backtest,
                inputs=["backtest_metrics", "backtest_methods", "backtest_winners", "log_audit"],
                outputs=None,
                name="show_backtest",
            ),
        ],
        namespace="backtest",
        prefix_datasets_with_namespace=False,
    )
