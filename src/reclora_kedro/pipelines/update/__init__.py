"""Update, on request: tables take in new interactions, models go on learning, and the next champion is named."""

from reclora_kedro.pipelines.update.pipeline import create_pipeline

__all__ = ["create_pipeline"]
