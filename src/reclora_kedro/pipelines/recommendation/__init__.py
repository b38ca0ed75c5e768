"""Recommendation: the best items for each user, shortlisted by the lens and ranked by the LLM; on request."""

from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
