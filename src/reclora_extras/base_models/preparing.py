"""Prepare a base LLM by steps, and measure it before and after each."""

import time
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.corpus import perplexities
from reclora_extras.base_models.steps import AS_IT_CAME, Material, load_step
from reclora_extras.base_models.tuning import answering
from reclora_kedro.evaluation.records import Records
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import LanguageModel


def prepare(
    llm: LanguageModel, material: Material, config: BaseModelConfig
) -> tuple[LanguageModel, Records, pl.DataFrame]:
    """Return the LLM after all steps, and measurements; a teacher may leave its adapter in the base LLM.

    The measurements are a record of the untouched LLM and one after each step, see `measure`; and their scores of the
    validation prompts: row, model (the step's place and name) and score (probability of a like). Errors are those of
    `require_steps` and `tune`.
    """
    if getattr(llm.model, "is_quantized", False):
        raise ValueError(
            f"{llm.name!r} has quantised weights, which no step of base_model.steps can change: set `quantization` of "
            "the catalog entry `base_llm` to null."
        )
    require_steps(llm, config)
    measured, logits = measure(llm, material, config)
    records, scores = [measured | {"step": AS_IT_CAME, "seconds": 0.0, "account": {}}], {AS_IT_CAME: expit(logits)}
    for place, step in enumerate(config.steps, start=1):
        start = time.perf_counter()
        llm, account = load_step(step).take(llm, material, config)
        seconds = time.perf_counter() - start
        measured, logits = measure(llm, material, config)
        records.append(measured | {"step": step, "seconds": seconds, "account": account})
        scores[f"{place}. {step}"] = expit(logits)
    tables = [
        pl.DataFrame({"row": material.validation.rows, "score": of_step}).with_columns(model=pl.lit(name))
        for name, of_step in scores.items()
    ]
    return llm, records, pl.concat(tables)


def require_steps(llm: LanguageModel, config: BaseModelConfig) -> None:
    """Raise ValueError for an LLM, possibly on the meta device, or settings that do not fit the steps."""
    layers = llm.model.config.get_text_config().num_hidden_layers
    for step in config.steps:
        layers = load_step(step).remaining_layers(llm.model, layers, config)


def measure(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[dict[str, Any], np.ndarray]:
    """Return parameters, perplexity and milliseconds_per_row of an LLM, and its logits of a like, (prompts,).

    For perplexity see `perplexities`; milliseconds and logits are of answers to the validation prompts, without an
    adapter.
    """
    model, prompts = AnswerModel(llm, material.answers), material.validation
    logits, milliseconds = answering(model, prompts, config.tokens_per_batch)
    measured = {
        "parameters": sum(weight.numel() for weight in llm.model.parameters()),
        **perplexities(llm, material.corpus, config.corpus.max_tokens, config.tokens_per_batch),
        "milliseconds_per_row": milliseconds,
    }
    return measured, logits
