"""Study, on request: a grid of settings over the default flow, as one table, figures and a report."""

from reclora_kedro.pipelines.study.pipeline import create_pipeline

__all__ = ["create_pipeline"]
