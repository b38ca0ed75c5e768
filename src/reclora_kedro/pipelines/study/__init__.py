"""Study, on request: the default flow for each setting of a grid, as one table, figures and a report."""

from reclora_kedro.pipelines.study.pipeline import create_pipeline

__all__ = ["create_pipeline"]
