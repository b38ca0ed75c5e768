"""Data that steps of a base LLM's preparation read, and what they report."""

from dataclasses import dataclass
from typing import Any

from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat

Account = dict[str, Any]  # numbers that a step reports, by name


@dataclass(frozen=True)
class Material:
    """Data that steps learn from and are measured by."""

    descriptions: list[str]  # texts of some items, whose perplexity is measured
    few_shot: PromptSet  # prompts of the training split, to calibrate and recover by
    validation: PromptSet  # prompts of the validation split
    answers: PromptFormat  # tokens of the two answers
