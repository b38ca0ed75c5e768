"""Merging, on request: several LoRAs become one, and what each way of merging is worth for users who are new."""

from reclora_kedro.pipelines.merging.pipeline import create_pipeline

__all__ = ["create_pipeline"]
