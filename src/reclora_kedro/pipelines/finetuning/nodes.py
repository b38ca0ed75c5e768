"""Nodes of the finetuning pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.finetuning.examples import AdapterTask, Examples, require_both_labels
from reclora_kedro.llm.prompts import PromptConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reclora_kedro.distributed.checkpoints import CheckpointStore
    from reclora_kedro.llm.language_model import LanguageModel


def train_adapter(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    states: dict[str, Tensor],
    checkpoints: CheckpointStore,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    engine: EngineConfig,
    *inputs: Any,
) -> tuple[pl.DataFrame, nn.Module]:
    """Train the variant's adapter by its objective; return the training log, and the adapter at its best validation."""
    from reclora_kedro.adapters.methods import new_adapter
    from reclora_kedro.finetuning.training import fine_tune
    from reclora_kedro.lens.states import gate_inputs
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.llm.prompt_set import prompt_set

    require_both_labels(prompts)
    read, training = gate_inputs(states, variant.gate_input), variant.training
    few_shot, validation = (prompt_set(prompts, use, read) for use in ("few_shot", "validation"))
    assert few_shot.gate_inputs is not None
    adapter = new_adapter(base_llm.model, variant.adapter, few_shot.gate_inputs, training.seed)
    model = answering_model(base_llm.with_model(adapter), prompt_config, engine, blend=variant.blend)

    def train(examples: Examples, store: CheckpointStore | None) -> pl.DataFrame:
        return fine_tune(model, examples, validation, training, store)

    questions, budget = prompts.filter(use="few_shot"), training.tokens_per_batch
    task = AdapterTask(train, model, few_shot, questions, budget, checkpoints, training.seed, inputs)
    return training.objective.fine_tune(task), adapter
