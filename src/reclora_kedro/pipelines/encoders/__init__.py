"""Tune an item encoder on behaviour; on request, or where the history step names it."""

from reclora_kedro.pipelines.encoders.pipeline import create_pipeline

NEEDS_LLM = True
