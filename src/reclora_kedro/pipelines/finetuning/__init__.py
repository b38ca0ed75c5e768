"""Build prompts of the few-shot and validation rows, and train one adapter per variant."""

from reclora_kedro.pipelines.finetuning.pipeline import create_pipeline

NEEDS_LLM = True
