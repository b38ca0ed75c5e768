"""Compute metrics and draw figures and a report from the stored scores and training logs."""

from reclora_kedro.pipelines.evaluation.pipeline import create_pipeline
