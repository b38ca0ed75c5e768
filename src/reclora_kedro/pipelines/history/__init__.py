"""History: the log with its split, item embeddings, and what each prompt may show of its user's past."""

from reclora_kedro.pipelines.history.pipeline import create_pipeline

__all__ = ["create_pipeline"]
