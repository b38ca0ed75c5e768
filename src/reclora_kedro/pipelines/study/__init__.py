"""Run the default flow for each setting of a grid, and compare the cells; on request."""

from reclora_kedro.pipelines.study.pipeline import create_pipeline
