"""Take in new interactions, train models incrementally, and name the next model; on request."""

from reclora_kedro.pipelines.update.pipeline import create_pipeline
