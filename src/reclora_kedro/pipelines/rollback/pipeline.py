"""The rollback pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.rollback.nodes import roll_back


def create_pipeline(names: PipelineNames) -> Pipeline:
    """From the champion's history to a new champion that names the versions of an earlier one."""
    return Pipeline(
        [Node(roll_back, inputs="champion_history", outputs="champion", name="roll_back")],
        namespace="rollback",
        prefix_datasets_with_namespace=False,
    )
