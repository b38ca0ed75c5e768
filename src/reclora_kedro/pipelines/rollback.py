"""Return to the previous model; on request."""

from kedro.pipeline import Pipeline

from reclora_kedro.current_model import CurrentModel, ModelInHistory
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step
from reclora_kedro.terminal import show
from reclora_kedro.update.promotion import current_model_table, rolled_back


def roll_back(model_history: list[ModelInHistory]) -> CurrentModel:
    """Return the previous model as the next one."""
    current = rolled_back(model_history)
    show(current_model_table(current))
    return current


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Name a new model with the versions of the previous one."""
    return step("rollback", node(roll_back, "model_history", "champion"))
