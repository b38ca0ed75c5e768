"""Rollback, on request: the champion before the present one becomes the champion again."""

from reclora_kedro.pipelines.rollback.pipeline import create_pipeline

__all__ = ["create_pipeline"]
