"""Nodes of the finetuning pipeline."""

import polars as pl
from peft import PeftModel
from torch import Tensor

from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.objectives import examples_of
from reclora_kedro.finetuning.processes import fine_tune
from reclora_kedro.finetuning.self_labelling import fine_tune_in_rounds
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.questions import UNLABELLED
from reclora_kedro.lens.states import gate_inputs
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptConfig


def train_adapter(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    states: dict[str, Tensor],
    checkpoints: CheckpointStore,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    engine: EngineConfig,
    *reference_logits: pl.DataFrame,
) -> tuple[pl.DataFrame, PeftModel]:
    """The variant's training log, and its adapter at its best validation AUC."""
    read, training = gate_inputs(states, variant.gate_input), variant.training
    few_shot, validation = (prompt_set(prompts, use, read) for use in ("few_shot", "validation"))
    assert few_shot.gate_inputs is not None
    adapter = new_adapter(base_llm.model, variant.adapter, few_shot.gate_inputs, training.seed)
    model = answering_model(base_llm.with_model(adapter), prompt_config, engine, blend=variant.blend)
    rows, budget = prompts.filter(use="few_shot"), training.tokens_per_batch
    examples = examples_of(model, few_shot, rows, training.objective, budget, reference_logits)
    if training.objective.kind == "self_generated":
        unlabelled = prompt_set(prompts, UNLABELLED, read)
        return fine_tune_in_rounds(model, examples, unlabelled, validation, training, checkpoints), adapter
    return fine_tune(model, examples, validation, training, checkpoints), adapter


def score_few_shot(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    states: dict[str, Tensor],
    adapter: str,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    engine: EngineConfig,
) -> pl.DataFrame:
    """The variant's own logits of the few-shot rows, without the lens's."""
    few_shot = prompt_set(prompts, "few_shot", gate_inputs(states, variant.gate_input))
    model = answering_model(base_llm, prompt_config, engine, adapter=adapter, gate_inputs=few_shot.gate_inputs)
    logits = model.all_llm_logits(few_shot, variant.training.tokens_per_batch, "score few-shot rows")
    return pl.DataFrame({"row": few_shot.rows, "logit": logits})
