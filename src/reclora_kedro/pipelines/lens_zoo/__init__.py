"""The lens zoo: every lens of a list, trained on the same split and compared."""

from reclora_kedro.pipelines.lens_zoo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
