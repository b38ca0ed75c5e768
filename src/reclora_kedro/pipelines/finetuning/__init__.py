"""Finetuning: prompts of the rows that the LLM sees, and one trained adapter per variant."""

from reclora_kedro.pipelines.finetuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
