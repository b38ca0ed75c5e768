"""Nodes that make what preferences read beside the few-shot prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.llm.prompts import PromptConfig

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.llm.language_model import LanguageModel


def score_few_shot(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    states_of_rows: dict[str, Tensor],
    adapter: str,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    engine: EngineConfig,
) -> pl.DataFrame:
    """Return the variant's own logits of the few-shot rows, without the lens's."""
    from reclora_kedro.lens import states
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.llm.prompt_set import prompt_set

    few_shot = prompt_set(prompts, "few_shot", states.gate_inputs(states_of_rows, variant.gate_input))
    model = answering_model(base_llm, prompt_config, engine, adapter=adapter, gate_inputs=few_shot.gate_inputs)
    logits = model.all_llm_logits(few_shot, variant.training.tokens_per_batch, "score few-shot rows")
    return pl.DataFrame({"row": few_shot.rows, "logit": logits})
