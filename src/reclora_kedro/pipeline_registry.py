"""Pipelines of the project, found by Kedro in ``reclora_kedro.pipelines``."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.names import TUNED_ENCODER, item_encoders

ON_REQUEST = {"candidates", "encoders", "export", "recommendation", "ranking", "study", "update", "rollback"}


def register_pipelines() -> dict[str, Pipeline]:
    """Every pipeline by its folder's name; ``__default__`` is the whole flow from raw files to the report.

    An item encoder is tuned in it where items are embedded by one.
    """
    pipelines = find_pipelines(raise_errors=True)
    on_request = ON_REQUEST - ({"encoders"} if TUNED_ENCODER in item_encoders() else set())
    flow = [pipeline for name, pipeline in pipelines.items() if name not in on_request]
    pipelines["__default__"] = sum(flow, start=Pipeline([]))
    return pipelines
