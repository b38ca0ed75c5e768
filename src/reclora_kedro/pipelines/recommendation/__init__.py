"""Recommend the best items to each user, in the way that validation likes choose."""

from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline
