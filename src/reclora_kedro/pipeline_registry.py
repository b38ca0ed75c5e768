"""Pipelines of the project, found by Kedro in ``reclora_kedro.pipelines``."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

ON_REQUEST = {"candidates", "export", "recommendation", "ranking", "study"}


def register_pipelines() -> dict[str, Pipeline]:
    """Every pipeline by its folder's name; ``__default__`` is the whole flow from raw files to the report."""
    pipelines = find_pipelines(raise_errors=True)
    flow = [pipeline for name, pipeline in pipelines.items() if name not in ON_REQUEST]
    pipelines["__default__"] = sum(flow, start=Pipeline([]))
    return pipelines
