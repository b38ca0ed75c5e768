"""The lens step: a CTR model on ids, trained on all training rows and frozen."""

from reclora_kedro.pipelines.lens.pipeline import create_pipeline

__all__ = ["create_pipeline"]
