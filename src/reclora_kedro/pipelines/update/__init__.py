"""Train models incrementally on new interactions, and promote the new model if it is not worse; on request."""

from reclora_kedro.pipelines.update.pipeline import create_pipeline
