"""Candidates: a retriever, trained to find the next item in the whole catalogue; on request."""

from reclora_kedro.pipelines.candidates.pipeline import create_pipeline

__all__ = ["create_pipeline"]
