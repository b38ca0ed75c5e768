"""Make the previous champion the present one again; on request."""

from reclora_kedro.pipelines.rollback.pipeline import create_pipeline

__all__ = ["create_pipeline"]
