"""Readmission, on request: users who were forgotten may come in again."""

from reclora_kedro.pipelines.readmit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
