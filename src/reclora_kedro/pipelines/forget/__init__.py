"""Forgetting users, on request: everything without them, where they still are, and on request that gone, too."""

from reclora_kedro.pipelines.forget.pipeline import create_pipeline

__all__ = ["create_pipeline"]
