"""Train a retriever, a next-item model over the whole catalogue; on request."""

from reclora_kedro.pipelines.candidates.pipeline import create_pipeline
