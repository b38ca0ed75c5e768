"""Scoring: the full test space by every model, Few2Many."""

from reclora_kedro.pipelines.scoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
