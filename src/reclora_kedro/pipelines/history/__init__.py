"""History: the time split, each user's sequence, item embeddings, and the history that each sample sees."""

from reclora_kedro.pipelines.history.pipeline import create_pipeline

__all__ = ["create_pipeline"]
