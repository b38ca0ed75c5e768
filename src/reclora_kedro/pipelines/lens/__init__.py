"""The lens: a CTR model on ids, trained on all training rows and frozen, and what it says of the prompts' rows."""

from reclora_kedro.pipelines.lens.pipeline import create_pipeline

__all__ = ["create_pipeline"]
