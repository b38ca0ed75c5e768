"""Measure hit rate, NDCG and MRR of models with and without an LLM on the test split; on request."""

from reclora_kedro.pipelines.ranking.pipeline import create_pipeline
