"""Readmit forgotten users; on request."""

from reclora_kedro.pipelines.readmit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
