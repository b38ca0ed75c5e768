"""Evaluation: what the stored scores and training logs say, as metrics, figures and a report."""

from reclora_kedro.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
