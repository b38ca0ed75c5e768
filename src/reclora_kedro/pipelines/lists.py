"""From raw tables to recommendations: ingestion, history and recommendation together; the first one to look at."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.registry import PIPELINES

STEPS_OF_LISTS = ("ingestion", "history", "recommendation")  # also of a log in which every row is liked


def create_pipeline(names: PipelineNames) -> Pipeline:
    return sum((PIPELINES.load(step).create_pipeline(names) for step in STEPS_OF_LISTS), start=Pipeline([]))
