"""Base model: pretraining, pruning and distilling of the base LLM before adapters; on request."""

from reclora_kedro.pipelines.base_model.pipeline import create_pipeline

__all__ = ["create_pipeline"]
