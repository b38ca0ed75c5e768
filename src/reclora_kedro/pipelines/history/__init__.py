"""Build the log with its split and item embeddings, and draw the questions for the LLM."""

from reclora_kedro.pipelines.history.pipeline import create_pipeline
