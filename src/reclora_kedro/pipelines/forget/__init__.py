"""Forgetting, on request: everything in use without some users, and which stored versions still hold them."""

from reclora_kedro.pipelines.forget.pipeline import create_pipeline

__all__ = ["create_pipeline"]
