"""Clean raw tables into the canonical log, items and users."""

from reclora_kedro.pipelines.ingestion.pipeline import create_pipeline
