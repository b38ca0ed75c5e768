"""Black box: an LLM behind an API answers test rows, with hints of the lens and without them; on request."""

from reclora_kedro.pipelines.black_box.pipeline import create_pipeline

__all__ = ["create_pipeline"]
