"""The rollback pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.rollback.nodes import roll_back


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Name a new champion with the versions of the previous one."""
    return Pipeline(
        [Node(roll_back, inputs="champion_history", outputs="champion", name="roll_back")],
        namespace="rollback",
        prefix_datasets_with_namespace=False,
    )
