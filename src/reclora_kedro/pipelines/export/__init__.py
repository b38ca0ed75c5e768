"""Export one ordinary LoRA per user, for other LLM servers; on request."""

from reclora_kedro.pipelines.export.pipeline import create_pipeline
