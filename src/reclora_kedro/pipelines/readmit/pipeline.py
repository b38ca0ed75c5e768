"""The readmit pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.readmit.nodes import readmit_users


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Remove readmitted users from the forgotten ones."""
    return Pipeline(
        [Node(readmit_users, ["users_to_drop", "params:forget"], "forgotten_users", name="readmit_users")],
        namespace="readmit",
        prefix_datasets_with_namespace=False,
    )
