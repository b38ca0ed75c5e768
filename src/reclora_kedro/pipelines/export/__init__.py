"""Export, on request: one ordinary LoRA per user, for servers that know nothing of lenses."""

from reclora_kedro.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
