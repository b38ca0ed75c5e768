"""Make the previous champion the present one again; on request."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.terminal import show
from reclora_kedro.update.promotion import champion_table, rolled_back


def roll_back(champion_history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the previous champion as the next one."""
    champion = rolled_back(champion_history)
    show(champion_table(champion))
    return champion


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Name a new champion with the versions of the previous one."""
    return Pipeline(
        [Node(roll_back, inputs="champion_history", outputs="champion", name="roll_back")],
        namespace="rollback",
        prefix_datasets_with_namespace=False,
    )
