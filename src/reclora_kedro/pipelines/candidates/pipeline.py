"""The candidates pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.candidates import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.train_retriever,
                inputs=["log", "retriever_checkpoints", "params:retriever", "params:engine"],
                outputs=["retriever_training_log", "retriever"],  # the latter last: checkpoints go when it is saved
                name="train_retriever",
            ),
            Node(
                nodes.plot_retriever,
                inputs="retriever_training_log",
                outputs="retriever_curve",
                name="plot_retriever",
            ),
            Node(nodes.show_retriever, inputs="retriever_training_log", outputs=None, name="show_retriever"),
        ],
        namespace="candidates",
        prefix_datasets_with_namespace=False,
    )
