"""Recommendation: the best items of each user, by what the validation split prefers."""

from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
