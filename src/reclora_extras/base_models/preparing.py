"""Prepare a base LLM by steps, and measure it before and after each."""

import math
import time
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.material import Material
from reclora_extras.base_models.steps import AS_IT_CAME, load_step
from reclora_extras.base_models.tuning import losses_of_texts, with_weights
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import plain_ids

DESCRIBED = 0.1  # share of the items whose descriptions measure perplexity
MAX_TOKENS = 256  # tokens read of each description


def prepare(
    llm: LanguageModel, material: Material, config: BaseModelConfig
) -> tuple[LanguageModel, Records, pl.DataFrame]:
    """Return the LLM after all steps, and measurements.

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

    Milliseconds and logits are of answers to the validation prompts, without an adapter and without cached states.
    """
    model = AnswerModel(with_weights(llm, llm.model), material.answers)
    start = time.perf_counter()
    logits = model.all_llm_logits(material.validation, config.tokens_per_batch, "measure")
    seconds = time.perf_counter() - start
    measured = {
        "parameters": sum(weight.numel() for weight in llm.model.parameters()),
        "perplexity": perplexity(llm, material.descriptions, config.tokens_per_batch),
        "milliseconds_per_row": 1000 * seconds / len(logits),
    }
    return measured, logits


def draw_descriptions(log: InteractionLog, seed: int) -> list[str]:
    """Return the descriptions of some items of the training split, drawn uniformly."""
    items = np.unique(log.sequences.item_index[log.training_events()])
    drawn = np.random.default_rng(seed).permutation(items)[: max(1, round(DESCRIBED * len(items)))]
    return describe_items(log.items[np.sort(drawn)])


def perplexity(llm: LanguageModel, texts: list[str], tokens_per_batch: int) -> float:
    """Return the LLM's perplexity of texts: exp of the mean loss of their tokens after the first."""
    token_ids = plain_ids(llm.tokenizer, texts, MAX_TOKENS)
    predicted = np.array([max(0, len(ids) - 1) for ids in token_ids])
    losses = losses_of_texts(llm, token_ids, tokens_per_batch)
    return math.exp(min(100, (losses * predicted).sum() / max(1, predicted.sum())))
