"""The lens: a CTR model, trained on all training rows and frozen, and its states and scores of the prompts' rows."""

from reclora_kedro.pipelines.lens.pipeline import create_pipeline

__all__ = ["create_pipeline"]
