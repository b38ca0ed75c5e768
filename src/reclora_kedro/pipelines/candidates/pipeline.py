"""The candidates pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.evaluation import figures, report
from reclora_kedro.pipelines.candidates import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, shown, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    return step(
        "candidates",
        node(
            nodes.train_retriever,
            ["log", "retriever_checkpoints", "params:retriever", "params:engine"],
            ["retriever_training_log", "retriever"],  # the latter last: checkpoints go when it is saved
        ),
        node(figures.plot_retriever, "retriever_training_log", "retriever_curve"),
        shown("show_retriever", report.retriever_table, "retriever_training_log"),
    )
